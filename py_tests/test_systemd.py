"""``tclchan httpd`` as a service: sockets that are passed, what it tells, and its unit files."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import ROOT
from httpclient import DEADLINE, SITE, Child, wait_for
from test_workers import ALONE_AND_NOT, children

# What a service manager does between fork and exec.
LAUNCH = """
import os, sys
descriptors, names, *command = sys.argv[1:]
descriptors = [int(fd) for fd in descriptors.split(",") if fd]
for target, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, target, inheritable=True)
if descriptors:
    os.environ.update(
        LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)), LISTEN_FDNAMES=names
    )
os.execv(command[0], command)
"""


class Service(Child):
    """``tclchan httpd`` with some sockets of ours, started as a service manager does."""

    def __init__(
        self,
        engine: str,
        cwd: Path,
        sockets: list[socket.socket],
        *options: str,
        names: str = "",
        **env: str,
    ) -> None:
        # Numbers that are in nobody's way.
        high = [os.dup2(sock.fileno(), 100 + n) for n, sock in enumerate(sockets)]
        for descriptor in high:
            os.set_inheritable(descriptor, True)
        httpd = [sys.executable, "-m", "tclchan", "httpd", "--root", str(SITE), *options]
        launch = [sys.executable, "-c", LAUNCH, ",".join(map(str, high)), names, *httpd]
        try:
            super().__init__(launch, engine, cwd, subprocess.DEVNULL, high, TMPDIR=str(cwd), **env)
        finally:
            for descriptor in high:
                os.close(descriptor)


@contextmanager
def service(
    engine: str, cwd: Path, sockets: list[socket.socket], *options: str, **env: str
) -> Iterator[Service]:
    child = Service(engine, cwd, sockets, *options, **env)
    try:
        child.banner = child.line()
        yield child
    except BaseException:
        print(child.stderr(), file=sys.stderr)
        child.end(signal.SIGKILL)
        raise
    assert child.end() == 0, child.stderr()


def get(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, DEADLINE) as sock:
        sock.sendall(b"GET /style.css HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b""))


@ALONE_AND_NOT
def test_socket_activation(engine: str, tmp_path: Path, options: list[str]) -> None:
    body = (SITE / "style.css").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in range(2):
            with service(engine, tmp_path, [listener], *options) as child:
                assert f"at http://127.0.0.1:{address[1]}/ " in child.banner
                for _ in range(4):
                    assert get(address).endswith(body)
                # What was passed goes to nobody else.
                environment = Path(f"/proc/{child.pid}/environ").read_text()
                assert "LISTEN_FDS=1" in environment
                for pid in children(child.pid):
                    assert "LISTEN_" not in Path(f"/proc/{pid}/environ").read_text()
            # It is still the service manager's, and clients wait for the next service.
            waiting = socket.create_connection(address, DEADLINE)
            waiting.close()


def test_matching_port_and_address(engine: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        options = ("--port", port, "--address", "127.0.0.1")
        with service(engine, tmp_path, [listener], *options) as child:
            assert f":{port}/" in child.banner


def test_named_socket(engine: str, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as listener,
        service(engine, tmp_path, [other, listener], names="admin:http") as child,
    ):
        assert f":{listener.getsockname()[1]}/" in child.banner


def test_wrong_sockets(engine: str, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket() as silent,
    ):
        port = listener.getsockname()[1]
        for sockets, options, message in [
            ([listener], ["--port", "1"], f"a socket with port {port}, not 1: leave --port out"),
            ([listener], ["--address", "::1"], "with address 127.0.0.1, not ::1: leave --address"),
            ([datagrams], [], "is not a listening TCP socket"),
            ([silent], [], "is not a listening TCP socket"),
            ([listener, listener], [], "passed 2 sockets: one is served"),
        ]:
            child = Service(engine, tmp_path, sockets, *options)
            assert child.process.wait(DEADLINE) == 1
            assert message in child.stderr(), child.stderr()
            assert "Traceback" not in child.stderr()
            child.end()


def test_sockets_of_another_process(engine: str, tmp_path: Path) -> None:
    """The variables are inherited by programs that they are not for."""
    with service(
        *(engine, tmp_path, [], "--port", "0"), LISTEN_PID="1", LISTEN_FDS="1", WATCHDOG_PID="1"
    ) as child:
        assert "serving" in child.banner


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(DEADLINE)
        self.path = str(path)

    def close(self) -> None:
        self._socket.close()

    def next(self, prefix: str) -> str:
        """Receive until a message has a line that begins so, and return that."""
        while True:
            message = self._socket.recv(4096).decode()
            self.messages.append(message)
            for line in message.split("\n"):
                if line.startswith(prefix):
                    return line

    def forget(self) -> None:
        """Let what has come already not count."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(DEADLINE)

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes in that time; what has come already does not count."""
        self.forget()
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(DEADLINE)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@ALONE_AND_NOT
def test_it_tells_how_it_is(
    engine: str, tmp_path: Path, manager: Manager, options: list[str]
) -> None:
    options = [*options, "--port", "0"]
    with service(engine, tmp_path, [], *options, NOTIFY_SOCKET=manager.path) as child:
        manager.next("READY=1")
        assert f"STATUS=serving {SITE} at http" in manager.messages[-1]
        if "--workers" in options:
            before = children(child.pid)
            child.process.send_signal(signal.SIGHUP)
            manager.next("RELOADING=1")
            assert re.search(r"MONOTONIC_USEC=\d+", manager.messages[-1])
            manager.next("READY=1")
            wait_for(lambda: not children(child.pid) & before)
        child.process.send_signal(signal.SIGTERM)
        manager.next("STOPPING=1")


def test_watchdog(engine: str, tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}
    for options in (["--port", "0"], ["--port", "0", "--workers", "2"]):
        with service(engine, tmp_path, [], *options, **environment) as child:
            for _ in range(3):
                manager.next("WATCHDOG=1")
            victim = max(children(child.pid), default=child.pid)
            os.kill(victim, signal.SIGSTOP)
            try:
                wait_for(lambda: manager.is_silent(0.6))
            finally:
                os.kill(victim, signal.SIGCONT)
            manager.next("WATCHDOG=1")


def test_watchdog_waits_for_busy_workers(engine: str, tmp_path: Path, manager: Manager) -> None:
    """A quarter of the time is theirs, however short the pauses are in which they are asked."""
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "60000000"}
    with service(engine, tmp_path, [], "--port", "0", "--workers", "2", **environment) as child:
        manager.next("WATCHDOG=1")
        victim = max(children(child.pid))
        os.kill(victim, signal.SIGSTOP)
        try:
            for _ in range(3):
                manager.next("WATCHDOG=1")
        finally:
            os.kill(victim, signal.SIGCONT)


@ALONE_AND_NOT
def test_watchdog_without_descriptors(
    engine: str, tmp_path: Path, manager: Manager, options: list[str]
) -> None:
    """A service that has as many connections as it may is well."""
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}
    with service(engine, tmp_path, [], "--port", "0", *options, **environment) as child:
        manager.next("WATCHDOG=1")
        limits = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        manager.forget()
        for _ in range(3):
            manager.next("WATCHDOG=1")
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, limits)


def test_unit_files(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    assert verify is not None, "no systemd-analyze: install the package systemd"
    for path in (ROOT / "examples/systemd").iterdir():
        text = path.read_text().replace("/usr/local/bin/tclchan", sys.executable)
        assert "ExecStart" not in text or sys.executable in text
        (tmp_path / path.name).write_text(text)
    units = sorted(map(str, tmp_path.glob("tclchan.*")))
    assert len(units) == 2
    done = subprocess.run([verify, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
