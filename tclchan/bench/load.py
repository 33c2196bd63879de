"""The other side of a measurement: what asks the server, and checks what it says.

The process of the benchmark is itself the client where Python is fast enough: for long streams of
bytes, and for connections that are idle or slow. For the rest it starts wrk, or ``load``, a program
of the package. Each function gives what was done in what time, or raises `Failure`.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Failure
from .server import Process, Server, running

LOCALHOST = "127.0.0.1"
MB = 1_000_000
_HERE = Path(__file__).parent
_PATIENCE_SECONDS = 20.0
_BLOCK = 1 << 20
# From one source address there are no more than some 28,000 ports to a server.
_CONNECTIONS_PER_ADDRESS = 10_000
_IP_BIND_ADDRESS_NO_PORT = 24
_SLOW_BYTES = 4096
_SLOW_INTERVAL_SECONDS = 0.1


@dataclass
class Work:
    """What was done during a measurement.

    Attributes:
        units: how much, in units of the workload.
        seconds: in what time.
        cpu_ns: with how much CPU time of the server.
        extra: more figures by their names, which end in their units.
    """

    units: float
    seconds: float
    cpu_ns: int
    extra: dict[str, float] = field(default_factory=dict)


class Pattern:
    """Bytes without end in which no two places look alike, for files and streams."""

    def __init__(self) -> None:
        """Make the bytes."""
        # A prime, so that a block of a usual size is nowhere in its own place.
        self.period = 1_000_003
        once = random.Random(1).randbytes(self.period)
        self._bytes = once + once + once

    def at(self, offset: int, size: int) -> bytes:
        """The bytes from *offset* on, at most twice the period."""
        start = offset % self.period
        return self._bytes[start : start + size]

    def write(self, path: Path, size: int) -> Path:
        """Fill a file with them."""
        with path.open("wb") as file:
            for offset in range(0, size, _BLOCK):
                file.write(self.at(offset, min(_BLOCK, size - offset)))
        return path

    def check(self, data: memoryview, offset: int, whole: bool) -> None:
        """Compare *data*, which came at *offset*: all of it, or its two ends, which is cheap."""
        size = len(data)
        parts = [(0, size)] if whole else [(0, min(64, size)), (max(0, size - 64), size)]
        for start, end in parts:
            if data[start:end] != self.at(offset + start, end - start):
                raise Failure(f"wrong bytes after {offset + start}")


PATTERN = Pattern()


def check_page(port: int, path: str, body: bytes) -> int:
    """Ask once for a page, compare its body, and return the length of the whole answer."""
    with _connected(port) as sock:
        return check_reply(sock, path, body)


def check_reply(sock: socket.socket, path: str, body: bytes) -> int:
    """The same over a connection that is there already."""
    sock.sendall(request(path))
    answer = b""
    while not _complete(answer, body):
        data = sock.recv(65536)
        if not data:
            raise Failure(f"wrong reply: {answer[:80]!r}")
        answer += data
    return len(answer)


def _complete(answer: bytes, body: bytes) -> bool:
    """Whether all of an answer is there; one that is wrong is a `Failure`."""
    if len(answer) > len(body) + 4096:
        raise Failure(f"wrong reply: {answer[:80]!r}")
    if not answer.endswith(body):
        return False
    if not answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise Failure(f"wrong reply: {answer[:80]!r}")
    return True


def request(path: str) -> bytes:
    """What asks for a page."""
    return f"GET {path} HTTP/1.1\r\nHost: {LOCALHOST}\r\n\r\n".encode()


def newcomers(port: int, count: int, body: bytes) -> float:
    """Have so many clients connect at once, and each ask for a page: seconds until all have it."""
    asking = request("/")
    socks = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        began = time.perf_counter()
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((LOCALHOST, port))
            socks[sock.fileno()] = sock
            selector.register(sock, selectors.EVENT_WRITE, b"")
        while left := len(selector.get_map()):
            ready = selector.select(_PATIENCE_SECONDS)
            if not ready:
                raise Failure(f"{left} of {count} newcomers have no answer")
            for key, events in ready:
                sock = socks[key.fd]
                if events & selectors.EVENT_WRITE:
                    sock.sendall(asking)
                    selector.modify(sock, selectors.EVENT_READ, b"")
                    continue
                data = sock.recv(65536)
                if not data:
                    raise Failure("the server ended the connection of a newcomer")
                if _complete(key.data + data, body):
                    selector.unregister(sock)
                else:
                    selector.modify(sock, selectors.EVENT_READ, key.data + data)
        return time.perf_counter() - began


def wrk(
    server: Server,
    connections: int,
    seconds: float,
    reply_bytes: int,
    path: str = "/",
    meanwhile: Callable[[float], None] = time.sleep,
) -> Work:
    """Have wrk make requests.

    Args:
        server: the server.
        connections: how many at once.
        seconds: for how long.
        reply_bytes: the length of each answer.
        path: what to ask for.
        meanwhile: called over and over with a number of seconds that it may take.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections)),
        # It ends by a signal, since it takes whole seconds only.
        *("--duration", str(int(seconds) + 60), "--timeout", f"{_PATIENCE_SECONDS:.0f}"),
        *("--script", str(_HERE / "wrk.lua"), f"http://{LOCALHOST}:{server.ports[0]}{path}"),
    ]
    began, others = server.cpu_ns(), server.descriptors()
    with running(command, None) as process:
        _await_catching(process, signal.SIGINT)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            meanwhile(min(0.05, left))
            server.check()
            process.check()
        accepted = server.descriptors() - others
        process.process.send_signal(signal.SIGINT)
        try:
            process.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure("wrk does not end") from None
        cpu_ns = server.cpu_ns() - began
        found = json.loads(process.errors().strip().rpartition("\n")[2] or "{}")
    if not found:
        raise Failure("wrk has counted nothing")
    errors = [
        f"{found[kind]} {what}"
        for kind, what in (
            ("connect", "could not connect"),
            ("read", "were cut off"),
            ("write", "could not be sent"),
            ("status", "were answered with an error"),
            ("timeout", f"were not answered within {_PATIENCE_SECONDS:.0f} s"),
        )
        if found[kind]
    ]
    if errors:
        raise Failure(f"of {found['count']} requests {', '.join(errors)}")
    # What is more than whole answers are those that were on their way when it ended.
    odd = found["bytes"] - found["count"] * reply_bytes
    if not found["count"] or not 0 <= odd <= connections * reply_bytes:
        raise Failure(f"{found['count']} replies of {reply_bytes} bytes were {found['bytes']}")
    extra = {**_percentiles(found), "connections_accepted": accepted}
    return Work(found["count"], found["seconds"], cpu_ns, extra)


def _await_catching(process: Process, number: int) -> None:
    """Wait until a process has a handler for a signal, which would end it before."""
    status = Path(f"/proc/{process.process.pid}/status")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        process.check()
        found = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
        if found and int(found[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.005)
    raise Failure("wrk does not start")


def exchange(server: Server, connections: int, seconds: float, request: Path, reply: Path) -> Work:
    """Send a file and expect another one, over and over; every byte is compared."""
    words = ["exchange", server.ports[0], connections, seconds, request, reply]
    return _own_load(server, seconds, [str(word) for word in words])


def accept_storm(server: Server, connections: int, seconds: float) -> Work:
    """Open connections in bursts, each of which the server closes at once."""
    words = ["accept", server.ports[0], connections, seconds]
    return _own_load(server, seconds, [str(word) for word in words])


def _own_load(server: Server, seconds: float, words: list[str]) -> Work:
    with running([str(_HERE / "load"), *words], None) as process:
        process.line(_PATIENCE_SECONDS)
        began = server.cpu_ns()
        process.say("go")
        found = json.loads(process.line(seconds + _PATIENCE_SECONDS))
        cpu_ns = server.cpu_ns() - began
    if not found["count"]:
        raise Failure("no reply in time")
    return Work(found["count"], found["seconds"], cpu_ns, _percentiles(found))


def _percentiles(found: dict[str, Any]) -> dict[str, float]:
    return {name: found[name] for name in ("p50_us", "p99_us")}


def download(server: Server, size: int, seconds: float) -> Work:
    """Download the file of the server until the time is over, at least once."""
    began, cpu_ns = time.perf_counter(), server.cpu_ns()
    count = 0
    while not count or time.perf_counter() - began < seconds:
        download_once(server.ports[0], size, whole=False)
        count += 1
    elapsed = time.perf_counter() - began
    return Work(count * size / MB, elapsed, server.cpu_ns() - cpu_ns)


def download_once(port: int, size: int, whole: bool) -> None:
    """Download the file; compare its length, and its bytes or those at the ends of each part."""
    buffer = memoryview(bytearray(_BLOCK))
    with _connected(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(1)
            if not data:
                raise Failure(f"wrong reply: {head!r}")
            head += data
        if f"Content-Length: {size}\r\n".encode() not in head:
            raise Failure(f"wrong reply: {head!r}")
        received = 0
        while count := sock.recv_into(buffer):
            PATTERN.check(buffer[:count], received, whole)
            received += count
    if received != size:
        raise Failure(f"{received} bytes came of a file of {size}")


def upload(server: Server, size: int, seconds: float) -> Work:
    """Send *size* bytes over a connection and have them counted, until the time is over."""
    data = PATTERN.at(0, _BLOCK)
    began, cpu_ns = time.perf_counter(), server.cpu_ns()
    count = 0
    while not count or time.perf_counter() - began < seconds:
        with _connected(server.ports[0]) as sock:
            for offset in range(0, size, _BLOCK):
                sock.sendall(data[: size - offset])
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(64)
        if answer != str(size).encode():
            raise Failure(f"of {size} bytes the server counted {answer!r}")
        count += 1
    elapsed = time.perf_counter() - began
    return Work(count * size / MB, elapsed, server.cpu_ns() - cpu_ns)


@contextmanager
def idle_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Hold so many connections, from as many source addresses as that takes, and say nothing."""
    socks = []
    with ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(_PATIENCE_SECONDS)
            # The port is then chosen when the peer is known, and need not differ from all others.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{2 + number // _CONNECTIONS_PER_ADDRESS}", 0))
            try:
                sock.connect((LOCALHOST, server.ports[0]))
            except OSError as error:
                raise Failure(f"connection {number + 1} of {count}: {error}") from error
            socks.append(sock)
        yield socks


@dataclass
class SlowReaders:
    """Clients that take a little of a stream now and then.

    Attributes:
        socks: their connections.
        chunk: what the server sends over and over.
        received: how many bytes each of them has.
    """

    socks: list[socket.socket]
    chunk: bytes
    received: list[int]
    _due: float = 0.0

    def take(self, seconds: float) -> None:
        """Let all of them receive if it is time, and wait for so many seconds at most."""
        now = time.monotonic()
        if now < self._due:
            time.sleep(min(seconds, self._due - now))
            return
        self._due = now + _SLOW_INTERVAL_SECONDS
        for number, sock in enumerate(self.socks):
            with contextlib.suppress(BlockingIOError):
                data = sock.recv(_SLOW_BYTES)
                if not data:
                    raise Failure("the server ended the connection of a slow reader")
                at = self.received[number] % len(self.chunk)
                if data != (self.chunk[at:] + self.chunk)[: len(data)]:
                    raise Failure(f"a slow reader got wrong bytes after {self.received[number]}")
                self.received[number] += len(data)


@contextmanager
def slow_readers(port: int, count: int, chunk: bytes) -> Iterator[SlowReaders]:
    """Connect so many slow readers to *port*, where *chunk* is sent over and over."""
    with ExitStack() as stack:
        socks = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(_PATIENCE_SECONDS)
            # Small, so that the server has to wait for each of them.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.connect((LOCALHOST, port))
            sock.setblocking(False)
            socks.append(sock)
        yield SlowReaders(socks, chunk, [0] * count)


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    """A connection; what fails in it is a `Failure`."""
    try:
        with socket.create_connection((LOCALHOST, port), _PATIENCE_SECONDS) as sock:
            yield sock
    except OSError as error:
        raise Failure(f"a connection failed: {error}") from error
