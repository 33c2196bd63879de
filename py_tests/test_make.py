"""``make serve``: what it takes and how it ends; ``make bench``; what the set-up says.

That they build is what ``make test`` has shown.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import AT_ONCE_S, ROOT
from httpclient import DEADLINE, TCLHTTPD, Child

# The package that these tests use is not built anew under them.
MAKE = ["make", "-C", str(ROOT), "-s", "-o", "build/serve.stamp", "-o", "build/package.stamp"]


@contextmanager
def make_serve(
    engine: str,
    cwd: Path,
    *prefix: str,
    stdin: int = subprocess.DEVNULL,
    words: tuple[str, ...] = ("TCLHTTPD=",),
    root: str = f"{ROOT}/examples/site",
    expect: str = "",
) -> Iterator[Child]:
    """``make serve`` on a free port, for a block that ends it."""
    command = [*prefix, *MAKE, "serve", "PORT=0", *words]
    child = Child(command, engine, cwd, stdin=stdin, MAKEFLAGS="", MAKELEVEL="")
    try:
        line = child.line()
        assert line.startswith(f"serving {root} at http://127.0.0.1:")
        assert line.endswith(f" on {expect or engine})")
        child.banner = line
        yield child
        began = time.monotonic()
        assert child.process.wait(5) == 0, child.stderr()
        assert time.monotonic() - began < AT_ONCE_S
        if "tclhttpd" not in line:  # Which speaks when it starts.
            assert child.stderr() == ""
    finally:
        child.end(signal.SIGKILL)
    assert child.rest() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_make(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path) as make:
        os.kill(make.pid, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_server(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path) as make:
        (server,) = Path(f"/proc/{make.pid}/task/{make.pid}/children").read_text().split()
        os.kill(int(server), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_both(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path, "setsid") as make:
        os.killpg(make.pid, number)


def test_ctrl_c(engine: str, tmp_path: Path) -> None:
    terminal, stdin = os.openpty()
    try:
        with make_serve(engine, tmp_path, "setsid", "--ctty", stdin=stdin):
            os.write(terminal, b"\x03")
    finally:
        os.close(terminal)
        os.close(stdin)


def page(make: Child, path: str) -> bytes:
    found = re.search(r"http://\S+/", make.banner)
    assert found
    with urlopen(found[0] + path, timeout=DEADLINE) as answer:
        body: bytes = answer.read()
        return body


def test_root_and_engine(engine: str, tmp_path: Path) -> None:
    root = tmp_path / "a root"
    root.mkdir()
    (root / "file.txt").write_text("of that root")
    words = (f"ROOT={root}", f"ENGINE={engine}", "TCLHTTPD=")
    # What make is told goes before the environment.
    other = {"io_uring": "epoll", "epoll": "io_uring"}[engine]
    with make_serve(other, tmp_path, words=words, root=str(root), expect=engine) as make:
        assert page(make, "file.txt") == b"of that root"
        os.kill(make.pid, signal.SIGTERM)


@pytest.mark.skipif(not TCLHTTPD, reason="TCLHTTPD does not name a tree of tclhttpd's sources")
def test_tclhttpd(engine: str, tmp_path: Path) -> None:
    tree = Path(TCLHTTPD)
    words, root = (f"TCLHTTPD={tree}",), f"{tree}/htdocs"
    with make_serve(engine, tmp_path, words=words, root=root) as make:
        assert "(tclhttpd on" in make.banner
        assert b"<title>TclHttpd Home Page</title>" in page(make, "")
        os.kill(make.pid, signal.SIGTERM)


def test_what_cannot_be_served_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [*MAKE, "serve", "ROOT=/nowhere"],
        env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert 'root "/nowhere" does not exist' in done.stderr


def test_bench_takes_arguments() -> None:
    done = subprocess.run(
        [*MAKE, "-o", "build/bench.stamp", "bench", "ARGS=--list"],
        env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("keepalive-1 ")


@pytest.mark.skipif("MAKELEVEL" not in os.environ, reason='only "make test" has just built')
def test_nothing_is_set_up_twice() -> None:
    """What a build has just done, the next one leaves alone."""
    for target in ("serve", "test"):
        done = subprocess.run(
            ["make", "-C", str(ROOT), "-n", target, "TCLHTTPD="],
            env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert {"serve": "tclchan httpd", "test": "pytest"}[target] in done.stdout
        for slow in ("setup.sh", "pip", "rm ", "meson"):
            assert slow not in done.stdout, done.stdout


# setup.sh, on a machine that lacks something ------------------------------------------------------

LACKING = ("curl", "wrk", "chromium")


class Machine:
    """The sources with nothing built, and a PATH that lacks some programs."""

    def __init__(self, where: Path) -> None:
        self.tree = where / "tree"
        (self.tree / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools/setup.sh", self.tree / "tools")
        self.bin = where / "bin"
        self.bin.mkdir()
        for directory in ("/bin", "/usr/bin"):  # What everybody may run.
            for program in Path(directory).iterdir():
                link = self.bin / program.name
                if program.name not in (*LACKING, "sudo", "apt-get") and not link.is_symlink():
                    link.symlink_to(program)
        for path in (where, *where.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)

    def has(self, name: str, script: str) -> None:
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def set_up(self, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        """Run it as somebody who may install nothing."""
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        return subprocess.run(
            [
                *(nobody if os.getuid() == 0 else []),
                "sh",
                str(self.tree / "tools/setup.sh"),
                "test",
            ],
            env={"PATH": str(self.bin)},
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Where nobody can look into, too.
    with tempfile.TemporaryDirectory(prefix="tclchan-setup-") as directory:
        yield Machine(Path(directory))


@pytest.mark.parametrize("sudo", ["", "echo 'sudo: a password is required' >&2; exit 1"])
def test_missing_packages_are_named_with_the_command(machine: Machine, sudo: str) -> None:
    if sudo:
        machine.has("sudo", sudo)
    done = machine.set_up()
    assert (done.returncode, done.stdout) == (1, "")
    first, second, third = done.stderr.splitlines()
    assert first.startswith("These packages are missing: ")
    assert set(LACKING) <= set(first.split())
    assert second == "Install them with:"
    assert third == "    sudo apt-get install" + first.removeprefix("These packages are missing:")


def test_sudo_may_ask_for_a_password_on_a_terminal(machine: Machine) -> None:
    machine.has("sudo", '[ "$1" != -n ] || exit 1; echo "$@" >>"${0%/*}/../tree/calls"; exit 1')
    machine.tree.chmod(0o777)
    terminal, stdin = os.openpty()
    try:
        done = machine.set_up(stdin)
    finally:
        os.close(terminal)
        os.close(stdin)
    assert done.returncode != 0
    calls = (machine.tree / "calls").read_text().splitlines()
    assert any("apt-get" in call and "install" in call for call in calls), done.stderr
    assert "sudo apt-get install" in done.stderr
