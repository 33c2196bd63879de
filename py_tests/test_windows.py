"""The package for Windows, in Windows' Python and in a native tclsh, which run under Wine.

Wine is not Windows: what passes here works as far as the functions go that Wine offers. This is
what takes a few minutes; `make windows-test` runs windows_all.py as well.
"""

from __future__ import annotations

import inspect
import re
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import test_httpd
import wine
from httpclient import SITE, Server
from tclfiles import judge
from test_browser import browse

# Those that have something of each part, and do not take long.
SOME = ("conformance.test", "transcript.test", "iocpsock.test", "recvmode.test", "tcp.test")
TIMEOUT_S = 600.0

pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[None]:
    """Windows with the package, and nothing that runs when the tests are done."""
    wine.begin()
    wine.installed()
    yield
    wine.end()


def test_the_wheel_is_for_windows() -> None:
    wheel = wine.wheel()
    assert re.fullmatch(r"tclchan-[\d.]+-cp3\d+-abi3-win_amd64\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as file:
        names = {name.removeprefix("tclchan/") for name in file.namelist()}
    assert {"_ffi.pyd", "iocpsock.dll", "pkgIndex.tcl", "include/iocpsock.h"} <= names
    assert [name for name in names if name.endswith((".so", ".dll.a"))] == []


def test_doctor() -> None:
    done = wine.wine("python", "-P", "-m", "tclchan", "doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\biocp\b", done.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The site of the examples, served on Windows."""
    with serving(tmp_path_factory.mktemp("site")) as server:
        yield server


@contextmanager
def serving(cwd: Path, *options: str, root: Path = SITE) -> Iterator[Server]:
    server = wine.WindowsServer(cwd, *options, root=root)
    try:
        yield server
    except BaseException:
        print(server.stderr())
        raise
    finally:
        server.end(signal.SIGKILL)


def passes(test: Callable[..., None], **fixtures: object) -> None:
    """Run a test of the servers on this system with the one on Windows."""
    wanted = inspect.signature(test).parameters
    test(**{name: value for name, value in fixtures.items() if name in wanted})


@pytest.mark.parametrize(
    "test",
    [
        test_httpd.test_site,
        test_httpd.test_a_request_that_comes_in_parts,
        test_httpd.test_links_lead_somewhere,
        test_httpd.test_page_made_by_tcl,
        test_httpd.test_statistics,
        test_httpd.test_not_found_everywhere,
        test_httpd.test_head,
        test_httpd.test_if_modified_since,
        test_httpd.test_request_byte_by_byte,
        test_httpd.test_half_closed_request,
        test_httpd.test_clients_that_reset,
        test_httpd.test_curl,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_site(test: Callable[..., None], server: Server, tmp_path: Path) -> None:
    passes(test, server=server, engine="iocp", tmp_path=tmp_path)


def test_browser(server: Server, tmp_path: Path) -> None:
    text = browse(server, "", tmp_path, "--virtual-time-budget=3000", "--dump-dom")
    assert "Sent to you by the iocp engine, tcllib in front of it" in text


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("program", ["tclsh", "tclsh9.0", "python"])
def test_tcl(name: str, program: str, record_property: Callable[[str, object], None]) -> None:
    done = wine.tcl_file(name, program, "iocp", wine.installed(), TIMEOUT_S)
    judge(name, done.returncode, done.stdout, record_property)
