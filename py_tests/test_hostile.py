"""Clients that mean harm: what they hold is bounded, and others are served meanwhile."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from httpclient import SERVERS, SITE, Server, reset, serve, wait_for

import tclchan
from tclchan.errors import HttpdError

IDLE_S, REQUEST_S = 1.0, 2.0
LIMITS = ("--idle-timeout", str(IDLE_S), "--request-timeout", str(REQUEST_S))
SOON_S = 10 * REQUEST_S

HEAD = b"GET /index.html HTTP/1.1\r\nHost: a\r\n"
UPLOAD = b"POST /index.html HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[Server]:
    with serve(engine, request.param, tmp_path, *LIMITS) as hosted:
        yield hosted


class Dribble(threading.Thread):
    """Connections that each send a byte now and then, until the server has ended all of them."""

    def __init__(self, server: Server, count: int, begin: bytes, byte: bytes) -> None:
        super().__init__(daemon=True)
        self.open = [server.connect() for _ in range(count)]
        for sock in self.open:
            sock.sendall(begin)
        self.byte = byte
        self.start()

    def run(self) -> None:
        while self.open:
            time.sleep(0.1)
            ended, _, _ = select.select(self.open, [], [], 0)
            for sock in self.open[:]:
                try:
                    if sock in ended and not sock.recv(65536):
                        raise ConnectionError
                    sock.sendall(self.byte)
                except OSError:
                    self.open.remove(sock)
                    sock.close()


def served(server: Server) -> None:
    """Others are."""
    begin = time.monotonic()
    response, body = server.request("/index.html")
    assert response.status == 200
    assert len(body) == int(response.headers["Content-Length"])
    assert time.monotonic() - begin < SOON_S


def ended(sock: socket.socket) -> bool:
    """Whether the server closes a connection soon; then we do."""
    sock.settimeout(SOON_S)
    with sock:
        try:
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
    return True


def test_those_who_say_nothing(server: Server) -> None:
    served(server)
    before = server.holdings()
    silent = [server.connect() for _ in range(100)]
    begin = time.monotonic()
    served(server)
    assert all(ended(sock) for sock in silent)
    assert time.monotonic() - begin > IDLE_S / 2
    assert server.stats()["counters"]["idleTimeouts"] >= 100
    wait_for(lambda: server.holdings() == before)


@pytest.mark.parametrize(
    ("begin", "byte"),
    [(b"", b"G"), (HEAD, b"X"), (UPLOAD, b"x")],
    ids=["request line", "headers", "body"],
)
def test_those_who_say_it_slowly(server: Server, begin: bytes, byte: bytes) -> None:
    served(server)
    before = server.holdings()
    slow = Dribble(server, 30, begin, byte)
    served(server)
    slow.join(SOON_S)
    assert not slow.open
    wait_for(lambda: server.holdings() == before)


def test_those_who_end_in_the_middle(server: Server) -> None:
    served(server)
    before = server.holdings()
    halves = []
    for begin in (b"", HEAD[:10], HEAD, UPLOAD):
        for way in ("shut", "close", "reset", "shut"):
            sock = server.connect()
            sock.sendall(begin)
            if way == "reset":
                reset(sock)
            elif way == "close":
                sock.close()
            else:
                sock.shutdown(socket.SHUT_WR)
                halves.append(sock)
    served(server)
    assert all(ended(sock) for sock in halves)
    wait_for(lambda: server.holdings() == before)


def test_those_who_do_not_take_the_answer(server: Server) -> None:
    served(server)
    before = server.holdings()
    deaf = [server.connect(4096) for _ in range(5)]
    for sock in deaf:
        sock.setblocking(False)
        try:
            for _ in range(20):
                sock.send(b"GET /icon.png HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        except OSError:
            pass  # The server has stopped reading, or has closed already.
    served(server)
    wait_for(lambda: server.holdings() == before)
    for sock in deaf:
        sock.close()


def test_those_who_know_no_end_of_a_line(server: Server) -> None:
    served(server)
    before, memory = server.holdings(), server.memory()
    endless = [server.connect() for _ in range(3)]
    for sock in endless:
        with suppress(ConnectionError):  # The server may have had enough.
            sock.sendall(b"x" * 2_000_000)
    served(server)
    assert all(ended(sock) for sock in endless)
    wait_for(lambda: server.holdings() == before)
    assert server.memory() - memory < 100_000_000


def test_a_proxy_says_who_it_is(engine: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with serve(engine, "xotcl", tmp_path, "--proxy-protocol", "--log-dir", str(logs)) as server:
        request = b"GET /style.css HTTP/1.0\r\nHost: a\r\n\r\n"
        line = b"PROXY TCP4 192.0.2.1 198.51.100.2 1000 80\r\n"
        binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(
            "!H4s4sHH", 12, socket.inet_aton("192.0.2.9"), socket.inet_aton("198.51.100.2"), 1, 80
        )
        for header in (line, binary):
            assert b" 200 " in server.raw(header + request).split(b"\r\n")[0]
        with server.connect() as sock:
            sock.sendall(request)
            assert ended(sock)

        def logged() -> bool:
            text = "".join(path.read_text() for path in logs.iterdir())
            return "192.0.2.1" in text and "192.0.2.9" in text

        wait_for(logged)


@pytest.mark.parametrize(("idle", "request_time"), [(-1, 0), (0, 86401)])
def test_times_that_are_none(idle: float, request_time: float) -> None:
    with (
        tclchan.Interp(replace_socket=True) as tcl,
        pytest.raises(HttpdError, match=r"^bad time-out -?\d+: must be 0 to 86400 seconds$"),
        tclchan.serving(tcl, SITE, idle_timeout=idle, request_timeout=request_time),
    ):
        pass
