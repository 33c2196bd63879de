"""``tclchan httpd``: several workers, their replacement, and how one or all of them end."""

from __future__ import annotations

import dataclasses
import http.client
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import AT_ONCE_S, Run
from httpclient import DEADLINE, SERVERS, SITE, TCLHTTPD, Child, Server, serve, wait_for

import tclchan
from tclchan import _cli
from tclchan._snapshot import Snapshot
from tclchan._supervisor import Supervisor
from tclchan._systemd import ServiceManager

ONE = ("--workers", "1", "--log-level", "info")
TWO = ("--workers", "2", "--log-level", "info")
LARGE = 12_000_000
ICON = (SITE / "icon.png").read_bytes()
ALONE_AND_NOT = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "two"])


@pytest.fixture
def two(engine: str, tmp_path: Path) -> Iterator[Server]:
    with serve(engine, "xotcl", tmp_path, *TWO) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A site with a file that does not fit into the buffers of a connection."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_text("hello")
    (root / "whoami.tml").write_text("[pid]")
    (root / "forever.tml").write_text("[while 1 {}]")
    with (root / "large.bin").open("wb") as large:
        large.truncate(LARGE)
    return root


def children(pid: int) -> set[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def serving(server: Server) -> dict[int, int]:
    """The number of each worker's place, and the process that last came to serve in it."""
    found = re.findall(r"worker (\d+) \(process (\d+)\) serves", server.stderr())
    return {int(number): int(pid) for number, pid in found}


def replaced(server: Server, before: dict[int, int]) -> bool:
    """Whether all of the workers are others, and the old ones are gone."""
    now = serving(server)
    return all(now[n] != before[n] for n in before) and children(server.pid) == {*now.values()}


class Load:
    """Clients that never rest, on kept-alive connections and on one for each request.

    A kept-alive one opens a new connection when the server has said that an answer is the last one.
    """

    def __init__(self, server: Server, kept_alive: int, one_shot: int) -> None:
        self.answers = 0
        self.closed = 0
        self.failures: list[str] = []
        self._server = server
        self._ended = threading.Event()
        bodies = [self._keep_alive] * kept_alive + [self._one_shot] * one_shot
        self._threads = [threading.Thread(target=self._body, args=(body,)) for body in bodies]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)

    def _body(self, body: object) -> None:
        try:
            while not self._ended.is_set():
                assert callable(body)
                body()
        except Exception as error:
            self.failures.append(f"{body}: {error!r}")

    def _keep_alive(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._server.port, 10)) as connection:
            while not self._ended.is_set():
                connection.request("GET", "/icon.png")
                response = connection.getresponse()
                assert response.read() == ICON
                self.answers += 1
                if response.will_close:
                    self.closed += 1
                    return

    def _one_shot(self) -> None:
        answer = self._server.raw(b"GET /icon.png HTTP/1.0\r\n\r\n")
        assert answer.endswith(ICON)
        self.answers += 1


def test_both_serve(engine: str, tmp_path: Path, root: Path) -> None:
    with serve(engine, "xotcl", tmp_path, *TWO, root=root) as server:
        assert server.banner.endswith(", 2 workers")
        pids: set[int] = set()
        for _ in range(200):
            pids.add(int(server.request("/whoami.tml")[1]))
            if len(pids) == 2:
                break
        assert pids == children(server.pid)


COMMAND_LINE = ["httpd", "--root", str(SITE), "--port", "0", "--workers", "2"]


def test_snapshots(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What monitoring is built on: the supervisor knows how its workers are."""
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    snapshots: dict[int, Snapshot] = {}
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(_cli.parse(COMMAND_LINE), [listener], ServiceManager("", 0, []))

        def client() -> None:
            wait_for(lambda: len(supervisor.snapshots()) == 2 or ended.is_set())
            snapshots.update(supervisor.snapshots())
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=client)
        thread.start()
        try:
            assert supervisor.run() == 0
        finally:
            ended.set()
            thread.join()
    assert [*snapshots] == [1, 2]
    for snapshot in snapshots.values():
        assert snapshot["engine"] == engine
        assert snapshot["server"] == "xotcl"
        assert snapshot["connections"] == 0
        assert 0 < snapshot["uptime"] < DEADLINE
        assert {field.name for field in dataclasses.fields(tclchan.Stats)} == {
            *snapshot["counters"]
        }
    assert len({snapshot["pid"] for snapshot in snapshots.values()}) == 2


def test_a_dead_worker_is_replaced(two: Server) -> None:
    first = serving(two)
    delays: list[float] = []
    for _ in range(3):
        victim = serving(two)[1]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: serving(two)[1] != victim)  # noqa: B023
        pattern = rf"worker 1 \(process {victim}\) was ended by signal 9 \(Killed\); .* in (.*) s"
        delays += map(float, re.findall(pattern, two.stderr()))
        assert two.request("/")[0].status == 200
    assert delays == [0.1, 0.2, 0.4]
    assert serving(two)[2] == first[2]
    assert children(two.pid) == set(serving(two).values())


def test_a_worker_that_exits_is_replaced(engine: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "end.tml").write_text("before [exit 7] after")
    (root / "index.html").write_text("hello")
    with serve(engine, "xotcl", tmp_path, *ONE, root=root) as server:
        server.raw(b"GET /end.tml HTTP/1.0\r\n\r\n")
        wait_for(lambda: "ended with exit code 7" in server.stderr())
        # The queue of its socket is the supervisor's: it waits for the next one.
        assert server.request("/")[0].status == 200


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "tcllib"])
def test_reload_under_load(engine: str, tmp_path: Path, name: str) -> None:
    with (
        serve(engine, name, tmp_path, *TWO, root=SITE) as server,
        Load(server, kept_alive=4, one_shot=4) as load,
    ):
        for _ in range(2):
            before, answers = serving(server), load.answers
            wait_for(lambda: load.answers > answers + 20)  # noqa: B023
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: replaced(server, before))  # noqa: B023
        assert load.failures == []
        assert load.closed >= 4
    assert load.failures == []


def test_reload_that_fails(engine: str, tmp_path: Path, root: Path) -> None:
    with serve(engine, "xotcl", tmp_path, *TWO, root=root) as server:
        before = serving(server)
        root.rename(tmp_path / "elsewhere")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "no worker is replaced any more" in server.stderr())
        assert '"' + str(root) + '" does not exist' in server.stderr()
        assert children(server.pid) == {*before.values()}
        (tmp_path / "elsewhere").rename(root)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: replaced(server, before))


def test_no_descriptors_for_another(two: Server) -> None:
    """The site goes on with who is left, and is whole again when there are some."""
    before = serving(two)
    limits = resource.prlimit(two.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(two.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: "worker 1 does not start: " in two.stderr())
    assert "Too many open files" in two.stderr()
    assert two.request("/")[0].status == 200
    two.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "no worker is replaced any more" in two.stderr())
    resource.prlimit(two.pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: serving(two)[1] != before[1])
    assert serving(two)[2] == before[2]


LAUNCHER = """
import sys
sys.executable = {python!r}
from tclchan import _cli
sys.exit(_cli.main(sys.argv[3:]))
"""


def test_reload_without_python(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone for a while when another version is installed."""
    python, launcher = tmp_path / "python", tmp_path / "launcher.py"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    launcher.write_text(LAUNCHER.format(python=str(python)))
    monkeypatch.setattr(Server, "python", (sys.executable, str(launcher)))
    with serve(engine, "xotcl", tmp_path, *TWO) as server:
        before = serving(server)
        python.rename(tmp_path / "elsewhere")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "no worker is replaced any more" in server.stderr())
        assert "No such file or directory" in server.stderr()
        assert children(server.pid) == {*before.values()}
        (tmp_path / "elsewhere").rename(python)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: replaced(server, before))


def test_one_that_cannot_start(two: Server, engine: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, message in [
            (("--root", str(SITE), "--port", port), "address already in use (127.0.0.1 port"),
            (("--root", str(SITE), "--port", str(two.port)), "address already in use (127.0.0.1"),
            (("--root", "none", "--port", "0"), 'root "none" does not exist'),
            (("--root", str(SITE), "--port", "0", "--engine", "kqueue"), "kqueue"),
            (("--root", str(SITE), "--workers", "0"), 'bad number "0": must be 1 or more'),
            (("--root", str(SITE), "--grace", "-1"), 'bad time "-1": must be 0 to'),
        ]:
            done = subprocess.run(
                [sys.executable, "-m", "tclchan", "httpd", "--workers", "2", *options],
                env={**os.environ, "TCLCHAN_ENGINE": engine},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
            assert done.returncode in (1, 2), options
            assert message in done.stderr, (options, done.stderr)
            assert "Traceback" not in done.stderr
            assert done.stdout == ""


def test_a_long_reason(cli: Run) -> None:
    """Why a worker does not start can be a long story."""
    done = cli("httpd", "--root", "/" + "\U0001d11e" * 30_000, "--port", "0", "--workers", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("tclchan: error: [Errno 36] File name too long: '/\U0001d11e")
    assert len(done.stderr) < 10_000


@contextmanager
def download(server: Server) -> Iterator[socket.socket]:
    """A client in the midst of an answer, which it does not read."""
    with server.connect(4096) as sock:
        sock.sendall(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(1, socket.MSG_PEEK) == b"H"
        yield sock


def rest(sock: socket.socket) -> int:
    """How many bytes come until the server closes."""
    count = 0
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with suppress(ConnectionResetError):
        while chunk := sock.recv(1 << 20):
            count += len(chunk)
    return count


@ALONE_AND_NOT
@pytest.mark.parametrize("name", SERVERS)
def test_drain(engine: str, tmp_path: Path, root: Path, name: str, options: list[str]) -> None:
    """What is being answered is finished; nobody else is let in."""
    with serve(engine, name, tmp_path, *options, root=root) as server:
        with download(server) as sock, server.connect() as idle:
            server.process.send_signal(signal.SIGTERM)
            assert rest(idle) == 0
            wait_for(server.refuses)
            assert rest(sock) > LARGE
        assert server.process.wait(DEADLINE) == 0
        assert not list(tmp_path.glob("tclchan-httpd-*"))


@ALONE_AND_NOT
def test_grace(engine: str, tmp_path: Path, root: Path, options: list[str]) -> None:
    options = [*options, "--grace", "0.5"]
    with serve(engine, "xotcl", tmp_path, *options, root=root) as server, download(server) as sock:
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        assert 0.4 < time.monotonic() - began < 0.5 + AT_ONCE_S
        assert rest(sock) < LARGE


@ALONE_AND_NOT
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal(
    engine: str, tmp_path: Path, root: Path, number: int, options: list[str]
) -> None:
    with serve(engine, "xotcl", tmp_path, *options, root=root) as server, download(server):
        server.process.send_signal(number)
        wait_for(server.refuses)
        began = time.monotonic()
        assert server.end(number) == 0
        assert time.monotonic() - began < AT_ONCE_S
    assert not list(tmp_path.glob("tclchan-httpd-*"))


def test_end_during_the_start(engine: str, tmp_path: Path) -> None:
    """Workers that do not serve yet leave nothing behind either."""
    command = [sys.executable, "-m", "tclchan", "httpd", "--root", str(SITE), "--port", "0"]
    child = Child([*command, "--workers", "2"], engine, tmp_path, TMPDIR=str(tmp_path))
    wait_for(lambda: list(tmp_path.glob("tclchan-httpd-*")))
    assert child.end() == 0, child.stderr()
    assert not list(tmp_path.glob("tclchan-httpd-*"))


def test_killed_workers_leave_nothing(two: Server, tmp_path: Path) -> None:
    before = {*tmp_path.glob("tclchan-httpd-*")}
    assert len(before) == 2
    for pid in children(two.pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len({*tmp_path.glob("tclchan-httpd-*")} - before) == 2)
    assert not before & {*tmp_path.glob("tclchan-httpd-*")}


def test_second_signal_to_what_computes(engine: str, tmp_path: Path, root: Path) -> None:
    with (
        serve(engine, "xotcl", tmp_path, *TWO, root=root) as server,
        server.connect() as sock,
        server.connect() as other,
    ):
        for busy in (sock, other):
            busy.sendall(b"GET /forever.tml HTTP/1.0\r\n\r\n")
        time.sleep(0.2)  # There is no sign of it from outside.
        server.process.send_signal(signal.SIGTERM)
        wait_for(server.refuses)
        began = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < AT_ONCE_S
    assert not list(tmp_path.glob("tclchan-httpd-*"))


@ALONE_AND_NOT
def test_idle_ends_at_once(engine: str, tmp_path: Path, options: list[str]) -> None:
    with (
        serve(engine, "xotcl", tmp_path, *options) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, 10)) as connection,
    ):
        connection.request("GET", "/")
        connection.getresponse().read()
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < AT_ONCE_S


def test_last_answer_says_so(engine: str, tmp_path: Path) -> None:
    """A client that asks once more while its server drains is told that it is the last time."""
    for name in SERVERS:
        with (
            serve(engine, name, tmp_path) as server,
            closing(http.client.HTTPConnection("127.0.0.1", server.port, 10)) as connection,
        ):
            connection.connect()
            connection.sock.sendall(b"GET /icon.png HTTP/1.1\r\nHost: a\r\n")
            server.wait_for_connections(2)
            server.process.send_signal(signal.SIGTERM)
            wait_for(server.refuses)
            connection.sock.sendall(b"\r\n")
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            assert response.will_close
            assert response.read() == ICON
            assert server.process.wait(DEADLINE) == 0


def test_page_that_computes(engine: str, tmp_path: Path, root: Path) -> None:
    """It gets its grace as others do, and no more."""
    with (
        serve(engine, "xotcl", tmp_path, "--grace", "0.5", root=root) as server,
        server.connect() as sock,
    ):
        sock.sendall(b"GET /forever.tml HTTP/1.0\r\n\r\n")
        time.sleep(0.2)  # There is no sign of it from outside.
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        assert 0.4 < time.monotonic() - began < 1.5 + AT_ONCE_S


def test_metrics_of_all(engine: str, tmp_path: Path) -> None:
    with serve(engine, "xotcl", tmp_path, *TWO, "--metrics", "0") as server:
        url = server.line().removeprefix("metrics at ")

        def told(sample: str) -> bool:
            with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                return sample in response.read().decode()

        for number in (1, 2):
            line = f'tclchan_worker_info{{engine="{engine}",server="xotcl",worker="{number}"}} 1.0'
            wait_for(lambda: told(line))  # noqa: B023
        os.kill(serving(server)[2], signal.SIGKILL)
        wait_for(lambda: told('tclchan_worker_restarts_total{worker="2"} 1.0'))
        assert told('tclchan_worker_restarts_total{worker="1"} 0.0')


def test_logs_of_all_are_rotated(engine: str, tmp_path: Path) -> None:
    """No line is lost, and no process goes on in the old files."""
    files = [tmp_path / "access.log", tmp_path / "own.log"]
    old = [file.with_suffix(".old") for file in files]
    options = (*TWO, "--access-log", str(files[0]), "--log-file", str(files[1]))
    with (
        serve(engine, "xotcl", tmp_path, *options) as server,
        Load(server, kept_alive=0, one_shot=4) as load,
    ):
        wait_for(lambda: load.answers > 50)
        for file, name in zip(files, old, strict=True):
            file.rename(name)
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: files[1].exists() and files[1].read_text().count("opened anew") == 3)
        size, answers = old[0].stat().st_size, load.answers
        wait_for(lambda: load.answers > answers + 50)
        assert old[0].stat().st_size == size
    assert load.failures == []
    lines = sum(file.read_text().count("\n") for file in (files[0], old[0]))
    assert lines == load.answers


def test_no_reload_without_workers(engine: str, tmp_path: Path) -> None:
    """SIGHUP asks for something that is not there, which is no reason to end."""
    with serve(engine, "xotcl", tmp_path) as server:
        for count in (1, 2):
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: server.stderr().count("--workers") == count)  # noqa: B023
        assert server.request("/")[0].status == 200


def holds_open(pid: int, file: Path) -> bool:
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(descriptor) == str(file):
                return True
    return False


def test_logs_are_rotated_during_a_start(engine: str, tmp_path: Path) -> None:
    """The new worker has opened the log before it is renamed, and does not serve yet."""
    log, old = tmp_path / "own.log", tmp_path / "own.old"
    with serve(engine, "xotcl", tmp_path, *ONE, "--log-file", str(log)) as server:
        first = children(server.pid)
        server.process.send_signal(signal.SIGHUP)
        (new,) = wait_for(lambda: children(server.pid) - first)
        # Until it has become another program, it has what its parent has.
        wait_for(lambda: b"-P" in Path(f"/proc/{new}/cmdline").read_bytes().split(b"\0"))
        while not holds_open(new, log):
            assert Path(f"/proc/{new}").exists()
        os.kill(new, signal.SIGSTOP)
        try:
            assert "replacing" in log.read_text()
            assert f"(process {new}) serves" not in log.read_text()
            log.rename(old)
            server.process.send_signal(signal.SIGUSR1)
            wait_for(lambda: log.exists() and log.read_text().count("opened anew") == 2)
        finally:
            os.kill(new, signal.SIGCONT)
        wait_for(lambda: f"[{new}]: the logs are opened anew" in log.read_text())
        wait_for(lambda: children(server.pid) == {new})
        assert not holds_open(new, old)


@pytest.mark.parametrize("options", [(), ("--workers", "1")], ids=["alone", "one"])
def test_rotation_in_the_first_moments(
    engine: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A signal for all processes of a service comes to those that only begin, too."""
    log = tmp_path / "own.log"
    command = [sys.executable, "-m", "tclchan", "httpd", "--root", str(SITE), "--port", "0"]
    child = Child([*command, "--log-file", str(log), *options], engine, tmp_path)
    try:
        wait_for(log.exists)
        while "serving" not in log.read_text():
            for pid in {child.pid, *children(child.pid)}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
            time.sleep(0.001)
            assert child.process.poll() is None, child.stderr()
        assert "User defined signal" not in child.stderr() + log.read_text()
    finally:
        assert child.end() == 0, child.stderr()


def answer(sock: socket.socket) -> bytes:
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.read()


def test_max_connections(engine: str, tmp_path: Path) -> None:
    ask = b"GET /icon.png HTTP/1.1\r\nHost: a\r\n\r\n"
    with (
        serve(engine, "xotcl", tmp_path, "--max-connections", "2") as server,
        server.connect() as first,
        server.connect() as second,
    ):
        for sock in (first, second):
            sock.sendall(ask)
            assert answer(sock) == ICON
        with server.connect() as third, server.connect() as fourth:
            third.sendall(ask)
            fourth.sendall(ask)
            first.sendall(ask)
            assert answer(first) == ICON
            assert select.select([third, fourth], [], [], 0.2)[0] == []
            first.close()
            assert answer(third) == ICON
            assert select.select([fourth], [], [], 0.2)[0] == []
            # It is let in, and answered, though nobody else is from now on.
            server.process.send_signal(signal.SIGTERM)
            assert answer(fourth) == ICON
        assert server.process.wait(DEADLINE) == 0


def test_max_connections_under_load(engine: str, tmp_path: Path) -> None:
    options = ("--max-connections", "2", "--workers", "1")
    with (
        serve(engine, "xotcl", tmp_path, *options) as server,
        Load(server, kept_alive=0, one_shot=12) as load,
    ):
        wait_for(lambda: load.answers > 300 or load.failures)
    assert load.failures == []


def test_workers_end_with_their_supervisor(two: Server) -> None:
    workers = children(two.pid)
    two.process.kill()
    two.process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    two.process.returncode = 0  # As the fixture wants it.


@pytest.mark.skipif(not TCLHTTPD, reason="TCLHTTPD does not name a tree of tclhttpd's sources")
def test_tclhttpd_keeps_alive_until_the_end(engine: str, tmp_path: Path) -> None:
    with (
        serve(engine, "tclhttpd", tmp_path, *TWO, root=SITE) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, 10)) as connection,
    ):
        for _ in range(5):
            connection.request("GET", "/icon.png")
            response = connection.getresponse()
            assert response.read() == ICON
            assert not response.will_close
