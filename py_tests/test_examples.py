"""Every file in examples/ is run, as its header says. A file without a test here fails a test."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest
from httpclient import DEADLINE, SITE, Child, reset, serve, wait_for

import tclchan

EXAMPLES = SITE.parent

Start = Callable[..., tuple[Child, int]]


def port_of(child: Child, engine: str) -> int:
    """The port that an example says it has, with the engine that it says it uses."""
    line = child.line()
    found = re.search(r"(?:port |127\.0\.0\.1:)(\d+)", line)
    assert found, line
    assert engine in line
    return int(found[1])


@pytest.fixture
def start(engine: str, tmp_path: Path) -> Iterator[Start]:
    """Start an example on a free port: gives the process and the port, and ends it well."""
    children: list[Child] = []

    def starter(*command: str) -> tuple[Child, int]:
        child = Child([sys.executable, "-P", *command], engine, tmp_path, DISPLAY="")
        children.append(child)
        return child, port_of(child, engine)

    yield starter
    for child in children:
        child.end()
    assert [child.stderr() for child in children] == [""] * len(children)


def run_tcl(name: str, *arguments: str) -> list[str]:
    return ["-m", "tclchan", "run", str(EXAMPLES / name), *arguments]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def read_line(sock: socket.socket, rest: bytearray) -> str:
    """One line, or the empty string at the end; *rest* keeps what came after it."""
    while b"\n" not in rest:
        if not (chunk := sock.recv(65536)):
            return ""
        rest += chunk
    line, _, rest[:] = rest.partition(b"\n")
    return line.decode().rstrip("\r")


def echo(port: int) -> None:
    data = os.urandom(3_000_000)
    with connect(port) as sock, connect(port) as other, connect(port) as rude:
        rude.sendall(b"bye")
        reset(rude)
        other.sendall(b"half a li")
        received = bytearray()
        view = memoryview(data)
        sock.setblocking(False)
        sent = 0

        def turn() -> bool:
            nonlocal sent
            select.select([sock], [sock] if sent < len(data) else [], [], DEADLINE)
            with suppress(BlockingIOError):
                sent += sock.send(view[sent : sent + 65536])
            with suppress(BlockingIOError):
                received.extend(sock.recv(1 << 20))
            return len(received) == len(data)

        # The server returns bytes while more are on their way.
        end = time.monotonic() + DEADLINE
        while not turn():
            assert time.monotonic() < end
        assert bytes(received) == data
        other.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: other.recv(100), b"")) == b"half a li"


def fetched(port: int, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, DEADLINE)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def test_01_echo_tcl(start: Start) -> None:
    _, port = start(*run_tcl("01_echo.tcl", "0"))
    echo(port)


def test_01_echo_tcl_in_tclsh(engine: str) -> None:
    process = subprocess.Popen(
        ["tclsh", str(EXAMPLES / "01_echo.tcl"), "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "TCLCHAN_ENGINE": engine,
            "TCLLIBPATH": f"{{{tclchan.library_dir()}}}",
        },
    )
    with process:
        try:
            assert process.stdout
            found = re.search(rb"port (\d+)", process.stdout.readline())
            assert found
            echo(int(found[1]))
        finally:
            process.terminate()


def test_02_echo_py(start: Start) -> None:
    child, port = start(str(EXAMPLES / "02_echo.py"), "0")
    echo(port)
    assert child.line().endswith("bytes") or "reset" in child.rest()


def test_03_http_client_tcl(engine: str, tmp_path: Path) -> None:
    def client(*urls: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *run_tcl("03_http_client.tcl", *urls)],
            env={**os.environ, "TCLCHAN_ENGINE": engine},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    with serve(engine, "xotcl", tmp_path) as server:
        urls = [server.url + name for name in ("", "style.css", "icon.png")]
        done = client(*urls)
        assert (done.returncode, done.stderr) == (0, "")
        for url, name in zip(urls, ("index.html", "style.css", "icon.png"), strict=True):
            size = (SITE / name).stat().st_size
            assert re.search(rf"^200 +{size} bytes  {re.escape(url)}$", done.stdout, re.MULTILINE)
        done = client(server.url + "none")
        assert done.returncode == 1
        assert done.stdout.startswith("404 ")
    done = client(server.url)
    assert done.returncode == 1
    assert "connection refused" in done.stderr


def test_04_chat_tcl(start: Start) -> None:
    _, port = start(*run_tcl("04_chat.tcl", "0"))
    with ExitStack() as stack:

        def join(name: str) -> tuple[socket.socket, Callable[[], str]]:
            sock = stack.enter_context(connect(port))
            read = partial(read_line, sock, bytearray())
            assert read().startswith("Welcome")
            for part in (name[:1], name[1:], "\n"):
                sock.sendall(part.encode())
            return sock, read

        ada, ada_reads = join("Ada")
        assert ada_reads() == "Hello, Ada. 1 here."
        bob, bob_reads = join("Bob")
        assert bob_reads() == "Hello, Bob. 2 here."
        assert ada_reads() == "* Bob joins"
        namesake, namesake_reads = join("Ada")
        assert namesake_reads() == "Another name, please."
        namesake.sendall("Žofia\r\n".encode())
        assert namesake_reads() == "Hello, Žofia. 3 here."
        assert ada_reads() == bob_reads() == "* Žofia joins"
        ada.sendall("Grüße\nand more\n".encode())
        assert [bob_reads(), bob_reads()] == ["Ada: Grüße", "Ada: and more"]
        assert [namesake_reads(), namesake_reads()] == ["Ada: Grüße", "Ada: and more"]
        bob.sendall(b"/who\n")
        assert bob_reads() == "Ada, Bob, Žofia"
        reset(namesake)
        assert ada_reads() == bob_reads() == "* Žofia leaves"
        bob.sendall(b"x" * 20_000)
        assert ada_reads() == "* Bob leaves: a line without an end"

        # One who does not read is put out, and the others go on.
        join("Deaf")
        assert ada_reads() == "* Deaf joins"
        line = b"y" * 4000 + b"\n"

        def chatter() -> bool:
            ada.sendall(line * 50 + b"/who\n")
            while (heard := ada_reads()).startswith("*"):
                pass
            return heard == "Ada"

        wait_for(chatter)
        ada.sendall(b"/quit\n")
        assert ada_reads() == ""


@pytest.fixture
def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def test_05_host_a_site_py(start: Start, tmp_path: Path, python_version: str) -> None:
    _, port = start(str(EXAMPLES / "05_host_a_site.py"), str(SITE), "0")
    assert fetched(port, "/icon.png") == (SITE / "icon.png").read_bytes()
    (tmp_path / "version.tml").write_text("Python [python_version]")
    _, port = start(str(EXAMPLES / "05_host_a_site.py"), str(tmp_path), "0")
    assert fetched(port, "/version").decode().startswith(f"Python {python_version}.")


def test_05_host_a_site_py_says_what_it_has_done(start: Start) -> None:
    child, port = start(str(EXAMPLES / "05_host_a_site.py"), str(SITE), "0")
    fetched(port, "/icon.png")
    assert child.end(signal.SIGINT) == 0
    assert re.fullmatch(r"1 connections, \d+ bytes sent\n", child.rest())


def greet(sock: socket.socket) -> None:
    assert read_line(sock, bytearray()).startswith("Hello, 127.0.0.1.")


def test_06_attach_py(start: Start) -> None:
    child, port = start(str(EXAMPLES / "06_attach.py"), "0")
    with connect(port) as first, connect(port) as second:
        for sock in (first, second):
            greet(sock)
        assert child.line().count("127.0.0.1:") == 1
        assert child.line().count("127.0.0.1:") == 2
        reset(first)
        assert child.line().count("127.0.0.1:") == 1
    assert child.line() == "nobody"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["02_echo.py"], b"hello\n"),
        (["05_host_a_site.py", str(SITE)], b"GET / HTTP/1.0\r\n\r\n"),
        (["06_attach.py"], b""),
    ],
    ids=["02", "05", "06"],
)
def test_ctrl_c_ends_it(start: Start, command: list[str], said: bytes) -> None:
    child, port = start(str(EXAMPLES / command[0]), *command[1:], "0")
    with connect(port) as sock:
        sock.sendall(said)
        assert sock.recv(1) != b""
    assert child.end(signal.SIGINT, seconds=5) == 0


@pytest.mark.parametrize(
    "command",
    [
        run_tcl("01_echo.tcl"),
        [str(EXAMPLES / "02_echo.py")],
        run_tcl("04_chat.tcl"),
        [str(EXAMPLES / "05_host_a_site.py"), str(SITE)],
        [str(EXAMPLES / "06_attach.py")],
    ],
    ids=["01", "02", "04", "05", "06"],
)
def test_port_in_use(tmp_path: Path, command: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-P", *command, str(taken.getsockname()[1])],
            env={**os.environ, "DISPLAY": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("couldn't open socket: address already in use")
    assert len(done.stderr.splitlines()) == 1


def test_every_example_has_a_test_and_says_how_to_run_it() -> None:
    for path in EXAMPLES.iterdir():
        if path.is_dir():
            assert path == SITE or Path(__file__).with_name(f"test_{path.name}.py").exists(), path
            continue
        assert f"test_{path.name.replace('.', '_')}" in globals(), path.name
        head = "\n".join(path.read_text().splitlines()[:8])
        program = "tclchan run" if path.suffix == ".tcl" else "python"
        assert f"{program} examples/{path.name}" in head, path.name
