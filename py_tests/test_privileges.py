"""``tclchan httpd --user``: what it is once its port is open."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpclient import DEADLINE, Server
from test_workers import ALONE_AND_NOT, children

USER = pwd.getpwnam("nobody")
GROUP = grp.getgrnam("daemon")


@pytest.fixture
def site() -> Iterator[Path]:
    """Where others may read and write, too."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        (site / "index.html").write_text("hello")
        site.chmod(0o777)
        yield site


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


def others_need_to_read() -> None:
    """A process that the user starts anew reads Python and this package."""
    needs_root()
    try:
        subprocess.run(
            [sys.executable, "-P", "-c", "import tclchan"],
            user=USER.pw_uid,
            cwd="/",
            capture_output=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip(f"{USER.pw_name} may not read what Python and this package consist of")


def identity(pid: int) -> tuple[set[str], set[str], set[str]]:
    """The user, group, and supplementary ids of a process: real, effective, saved."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = re.findall(r"^(?:Uid|Gid|Groups):(.*)$", status, re.MULTILINE)
    uids, gids, groups = (set(field.split()) for field in fields)
    return uids, gids, groups


@ALONE_AND_NOT
def test_user_and_group(engine: str, site: Path, options: list[str]) -> None:
    if options:
        others_need_to_read()
    needs_root()
    for more, gid in (((), USER.pw_gid), (("--group", GROUP.gr_name), GROUP.gr_gid)):
        server = Server(engine, "xotcl", site, *options, "--user", USER.pw_name, *more, root=site)
        try:
            assert server.request("/")[1] == b"hello"
            for pid in (server.pid, *children(server.pid)):
                uids, gids, groups = identity(pid)
                assert uids == {str(USER.pw_uid)}
                assert gids == {str(gid)}
                assert groups == {str(gid)}, "root's supplementary groups are left"
        finally:
            assert server.end() == 0, server.stderr()


def refusal(site: Path, *options: str, user: int | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tclchan", "httpd", "--root", str(site), "--port", "0", *options],
        user=user,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_unknown_names(site: Path) -> None:
    assert 'unknown user "no-such-user"' in refusal(site, "--user", "no-such-user")
    assert 'unknown user "4294967294"' in refusal(site, "--user", "4294967294")
    assert 'unknown group "no-such-group"' in refusal(site, "--group", "no-such-group")
    # Numbers that no group can have: the first one would mean that nothing is to change.
    for number in ("4294967295", "99999999999"):
        assert f'unknown group "{number}"' in refusal(site, "--group", number)


def test_only_root_can(site: Path) -> None:
    user = None
    if os.geteuid() == 0:
        others_need_to_read()
        user = USER.pw_uid
    assert 'cannot become user "root": only root can' in refusal(site, "--user", "root", user=user)
    message = refusal(site, "--group", GROUP.gr_name, user=user)
    assert f'cannot become group "{GROUP.gr_name}": only root can' in message
