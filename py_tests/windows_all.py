"""All the tests that Windows' programs can run under Wine, which takes the better part of an hour.

`make windows-test` runs them, and nothing else does: every file of Tcl tests in a native tclsh,
with a driver built for testing and on its simulated engine, too, and in Windows' Python; the tests
in Python there; the examples; the core's tests of sockets; and what servers and clients have to
stand.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import coresuites
import pytest
import test_examples
import test_hostile
import test_httpd_downloads
import wine
from conftest import ROOT
from httpclient import DEADLINE, SITE, Child, Server
from tclfiles import FILES, judge
from test_windows import SOME, passes, programs, serving
from wine import windows_path

__all__ = ["programs"]

SECONDS = 1800.0
pytestmark = pytest.mark.timeout(SECONDS + 60)
Record = Callable[[str, object], None]

# They never end with the core's sockets under Wine.
ENDLESS = ("socket_inet-2.13", "socket_inet6-2.13")
CONNECTIONS = 1000
ROUNDS = 100
SENT = 64 << 20
SENDER = """
lappend auto_path $env(TCLCHAN_LIBDIR)
package require Iocpsock
lassign $argv port rounds size
set block [string repeat {0123456789abcdef} 4096]
set data [string repeat $block [expr {$size / 65536}]]
for {set round 0} {$round < $rounds} {incr round} {
    set chan [socket2 127.0.0.1 $port]
    fconfigure $chan -blocking 0 -translation binary
    puts -nonewline $chan $data
    close $chan
    while {[dict get [iocp::stats] socketsOpen] > 0} {
        after 10 {set turn 1}
        vwait turn
    }
}
exit
"""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("engine", ["iocp", "sim"])
def test_tcl(name: str, engine: str, record_property: Record) -> None:
    done = wine.tcl_file(name, "tclsh", engine, wine.testing_driver(), SECONDS)
    judge(name, done.returncode, done.stdout, record_property)


@pytest.mark.parametrize("name", [name for name in FILES if name not in SOME])
def test_tcl_in_python(name: str, record_property: Record) -> None:
    done = wine.tcl_file(name, "python", "iocp", wine.installed(), SECONDS)
    judge(name, done.returncode, done.stdout, record_property)


def test_python(tmp_path: Path) -> None:
    pytest_words = ("-q", "-o", f"cache_dir={windows_path(tmp_path)}", "--capture=sys")
    done = wine.wine(
        *("python", "-P", "-m", "pytest", *pytest_words, windows_path(ROOT / "py_tests")),
        timeout=SECONDS,
        TCLLIBPATH=wine.tcllib(),
    )
    print(done.stdout)
    assert done.returncode == 0


def core_run(engine: str, directory: Path, *skipped: str) -> coresuites.Outcome:
    """Run the core's tests of sockets; without an engine, on the core's own."""
    directory.mkdir()
    done = wine.wine(
        "tclsh",
        windows_path(coresuites.fetched("tcl8.6-source") / "tests/socket.test"),
        *("-verbose", "pass skip start error", "-skip", " ".join(skipped)),
        *("-tmpdir", windows_path(directory)),
        cwd=directory,
        timeout=SECONDS,
        TCL_LIBRARY=windows_path(coresuites.CORE),
        TCLCHAN_TCL_LIBRARY=windows_path(wine.BUILD / "tcl/lib/tcl8.6"),
        TCLCHAN_LIBDIR=windows_path(wine.installed()),
        TCLCHAN_TEST_CORE="0" if engine else "1",
        TCLCHAN_ENGINE=engine,
    )
    print(done.stdout)
    return coresuites.Outcome(done.returncode, done.stdout)


def test_core_suite(tmp_path: Path) -> None:
    """What passes with the core's sockets passes with the driver's."""
    core = core_run("", tmp_path / "core", *ENDLESS)
    core.ends.update(dict.fromkeys(ENDLESS, coresuites.SKIPPED))
    ours = core_run("iocp", tmp_path / "ours")
    assert ours.complete
    assert [ours.ends[name] for name in ENDLESS] == [coresuites.PASSED] * len(ENDLESS)
    assert list(core.ends.values()).count(coresuites.PASSED) > 140
    run = coresuites.Run("8.6", "tclsh", "socket.test", "iocp")
    assert coresuites.complaints(core, ours, coresuites.differences(run, core.ends)) == {}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[test_examples.Start]:
    """Start an example, as the fixture of that name on this system does."""
    children: list[Child] = []

    def starter(*command: str) -> tuple[Child, int]:
        command = (*wine.PYTHON_COMMAND, *command)
        child = wine.WindowsChild(command, "iocp", tmp_path, TCLLIBPATH=wine.tcllib())
        children.append(child)
        return child, test_examples.port_of(child, "iocp")

    yield starter
    for child in children:
        child.end(signal.SIGKILL)
    assert [child.stderr() for child in children] == [""] * len(children)


@pytest.mark.parametrize(
    "test",
    [
        test_examples.test_01_echo_tcl,
        test_examples.test_02_echo_py,
        test_examples.test_04_chat_tcl,
        test_examples.test_05_host_a_site_py,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_examples_run(
    test: Callable[..., None], start: test_examples.Start, tmp_path: Path
) -> None:
    said = wine.wine("python", "--version").stdout.split()[-1]
    version = ".".join(said.split(".")[:2])
    passes(test, start=start, tmp_path=tmp_path, python_version=version)


def test_example_with_a_window(start: test_examples.Start) -> None:
    """Windows always has a place for one: it shows there what it says elsewhere."""
    _, port = start(str(ROOT / "examples/06_attach.py"), "0")
    for _ in range(2):
        with test_examples.connect(port) as sock:
            test_examples.greet(sock)


def test_example_of_a_client(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        urls = [server.url + name for name in ("", "style.css", "icon.png")]
        client = ("-m", "tclchan", "run", windows_path(ROOT / "examples/03_http_client.tcl"))
        done = wine.wine("python", "-P", *client, *urls)
    assert done.returncode == 0, done.stdout
    for url, name in zip(urls, ("index.html", "style.css", "icon.png"), strict=True):
        size = (SITE / name).stat().st_size
        assert re.search(rf"^200 +{size} bytes  {re.escape(url)}\s*$", done.stdout, re.MULTILINE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("downloads")
    test_httpd_downloads.write_files(root)
    return root


@pytest.fixture
def downloads(tmp_path: Path, root: Path) -> Iterator[Server]:
    with serving(tmp_path, "--grace", "1", root=root) as server:
        yield server


@pytest.mark.parametrize(
    "test",
    [
        test_httpd_downloads.test_one_download,
        test_httpd_downloads.test_50_downloads_side_by_side,
        test_httpd_downloads.test_client_gone_in_the_header,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_downloads(
    test: Callable[..., None], downloads: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_httpd_downloads, "SECONDS", SECONDS)
    checksum = hashlib.sha256((root / "file.bin").read_bytes()).hexdigest()
    passes(test, server=downloads, checksum=checksum)


@pytest.mark.parametrize(
    "test",
    [
        test_hostile.test_those_who_say_nothing,
        test_hostile.test_those_who_end_in_the_middle,
        test_hostile.test_those_who_do_not_take_the_answer,
        test_hostile.test_those_who_know_no_end_of_a_line,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_hostile_clients(test: Callable[..., None], tmp_path: Path) -> None:
    with serving(tmp_path, *test_hostile.LIMITS) as server:
        passes(test, server=server)


def test_a_thousand_connections(tmp_path: Path) -> None:
    with serving(tmp_path) as server, ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(CONNECTIONS)]
        server.wait_for_connections(CONNECTIONS)
        for sock in socks:
            sock.sendall(b"GET /style.css HTTP/1.0\r\nHost: a\r\n\r\n")
        answers = {everything(sock) for sock in socks}
    style = (ROOT / "examples/site/style.css").read_bytes()
    assert all(b" 200 " in answer[:20] and answer.endswith(style) for answer in answers)


def test_no_byte_is_lost_by_closing(tmp_path: Path) -> None:
    """Written to a channel that does not block, and closed at once."""
    script = tmp_path / "sender.tcl"
    script.write_text(SENDER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        port = listener.getsockname()[1]
        with subprocess.Popen(
            [wine.RUN, "tclsh", windows_path(script), str(port), str(ROUNDS), str(SENT)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TCLCHAN_LIBDIR": windows_path(wine.installed())},
            text=True,
        ) as sender:
            try:
                counts = [received(listener) for _ in range(ROUNDS)]
                output, _ = sender.communicate(timeout=DEADLINE)
            finally:
                sender.kill()
    assert (set(counts), output, sender.returncode) == ({SENT}, "", 0)


def everything(sock: socket.socket) -> bytes:
    """What comes on a connection, to its end."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def received(listener: socket.socket) -> int:
    """How much comes on the next connection, to its end."""
    with listener.accept()[0] as sock:
        sock.settimeout(DEADLINE)
        buffer = bytearray(1 << 20)
        return sum(iter(lambda: sock.recv_into(buffer), 0))
