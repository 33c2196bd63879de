"""What the tests of the web servers share: a hosted server as a child process, and rude clients."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from conftest import WINDOWS

T = TypeVar("T")

SITE = Path(__file__).resolve().parent.parent / "examples" / "site"
TCLHTTPD = os.environ.get("TCLHTTPD", "")
# There is no XOTcl for Windows but what one builds oneself.
SERVERS = [
    *([] if WINDOWS else ["xotcl"]),
    "tcllib",
    *(["tclhttpd"] if TCLHTTPD else []),
]
DEADLINE = 30.0


def wait_for(condition: Callable[[], T], seconds: float = DEADLINE, what: str = "") -> T:
    """Return the first true result of *condition*."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)
    return result


class Child:
    """A process that prints a line when it is ready, and ends when it is asked to."""

    def __init__(
        self,
        command: Sequence[str],
        engine: str,
        cwd: Path,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        **env: str,
    ) -> None:
        self.errors = cwd / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                env={**os.environ, "TCLCHAN_ENGINE": engine, **env},
                pass_fds=pass_fds,
                bufsize=0,
            )
        self.pid = self.process.pid
        self.banner = ""
        self._rest = b""

    def line(self, seconds: float = DEADLINE) -> str:
        """The next line of its standard output."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert chunk, f"no line from {self.process.args!r}: {self._rest!r}, {self.stderr()}"
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def rest(self) -> str:
        """What else it said, once it has ended."""
        assert self.process.returncode is not None
        return self._rest.decode()

    def stderr(self) -> str:
        return self.errors.read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Send it a signal, if it has not ended, and return its exit code."""
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return self.process.returncode
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._rest += self.process.stdout.read()
            self.process.stdout.close()


class Server(Child):
    """``python -m tclchan httpd`` on a free port."""

    python: tuple[str, ...] = (sys.executable,)

    def __init__(
        self, engine: str, server: str, cwd: Path, *options: str, root: Path | None = SITE
    ) -> None:
        command = [*self.python, "-m", "tclchan", "httpd", "--port", "0", "--server", server]
        if root:
            command += ["--root", str(root)]
        if server == "tclhttpd":
            command += ["--tclhttpd", TCLHTTPD]
        super().__init__([*command, *options], engine, cwd, TMPDIR=str(cwd))
        try:
            self.banner = self.line()
            found = re.fullmatch(
                r"serving (.*) at http://127\.0\.0\.1:(\d+)/ \((\w+) on (\w+)\)(?:, \d+ workers?)?",
                self.banner,
            )
            assert found, self.banner
            assert (found[3], found[4]) == (server, engine)
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        self.server = server
        self.port = int(found[2])
        self.url = f"http://127.0.0.1:{self.port}/"

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask on a connection of its own; a name such as ``if_match`` is the header If-Match."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, DEADLINE)) as connection:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return response, response.read()

    def raw(self, data: bytes, half_close: bool = False) -> bytes:
        """Send exactly *data*, and return all that comes until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def stats(self) -> dict[str, Any]:
        response, body = self.request("/stats.json")
        assert response.status == 200
        stats: dict[str, Any] = json.loads(body)
        return stats

    def wait_for_connections(self, count: int) -> None:
        wait_for(lambda: self.stats()["connections"] >= count)

    def holdings(self) -> tuple[int, int, int]:
        """Its descriptors once it has answered, and its channels and connections as it does."""
        # The end of the answer is the server's close: its descriptor is gone then.
        head, _, body = self.raw(b"GET /stats.json HTTP/1.0\r\nHost: a\r\n\r\n").partition(b"{")
        assert b" 200 " in head.split(b"\n")[0], head
        stats = json.loads(b"{" + body)
        return len(os.listdir(f"/proc/{self.pid}/fd")), stats["channels"], stats["connections"]

    def at_rest(self) -> tuple[int, int, int]:
        """Its holdings when it has seen that all other clients are gone."""

        def alone() -> list[tuple[int, int, int]]:
            holdings = self.holdings()
            return [holdings] if holdings[2] == 1 else []

        return wait_for(alone)[0]

    def refuses(self) -> bool:
        """Whether it listens no more."""
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == errno.ECONNREFUSED

    def memory(self) -> int:
        """Its peak resident set in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


@contextmanager
def serve(
    engine: str, server: str, cwd: Path, *options: str, root: Path | None = SITE
) -> Iterator[Server]:
    """A server for the length of a block; it must end well, and quickly."""
    hosted = Server(engine, server, cwd, *options, root=root)
    try:
        yield hosted
    except BaseException:
        print(hosted.stderr(), file=sys.stderr)
        hosted.end(signal.SIGKILL)
        raise
    assert hosted.end() == 0, hosted.stderr()


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
