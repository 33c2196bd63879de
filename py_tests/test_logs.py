"""What ``tclchan httpd`` logs: its own log, and the access log of each server."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Run
from httpclient import DEADLINE, SERVERS, SITE, Server, reset, serve, wait_for

from tclchan._httpd import TCL_DIR
from tclchan._logs import JsonFormatter, LineHandler, TextFormatter

# A quoted field ends at the first quote that has no backslash.
QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
COMBINED = re.compile(
    rf"(\S+) - (\S+) \[([^]]+)\] {QUOTED} (\d\d\d|-) ([1-9]\d*|-) {QUOTED} {QUOTED}"
)


class Entry(NamedTuple):
    """A line of an access log."""

    host: str
    user: str
    time: str
    request: str
    status: str
    bytes: str
    referer: str
    agent: str


def entries(*files: Path) -> list[Entry]:
    lines = [line for file in files for line in file.read_text().splitlines()]
    found = [COMBINED.fullmatch(line) for line in lines]
    assert all(found), lines
    return [Entry(*match.groups()) for match in found if match]


def wait_for_entries(file: Path, count: int) -> list[Entry]:
    wait_for(lambda: file.read_bytes().count(b"\n") >= count, what=f"{count} lines in {file}")
    return entries(file)


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    server: str = request.param
    return server


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_access_log(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    size = {path.name: str(path.stat().st_size) for path in SITE.iterdir()}
    before = datetime.now(UTC).replace(microsecond=0)
    with serve(engine, name, tmp_path, "--access-log", str(log)) as server:
        date = server.request("/style.css")[0].headers["Last-Modified"]
        server.request("/style.css", "HEAD")
        server.request("/style.css?a=b", Referer="http://a.example/?q", User_Agent="Me/1.0 (x)")
        server.request("/style.css", If_Modified_Since=date)
        missing = server.request("/none")
        made = server.request("/stats.tml")
        found = wait_for_entries(log, 6)
    assert entries(log) == found
    assert {entry.host for entry in found} == {"127.0.0.1"}
    assert {entry.user for entry in found} == {"-"}
    for entry in found:
        time = datetime.strptime(entry.time, "%d/%b/%Y:%H:%M:%S %z")
        assert before <= time <= datetime.now(UTC) + timedelta(seconds=1)
    assert [(e.request, e.status, e.bytes) for e in found] == [
        ("GET /style.css HTTP/1.1", "200", size["style.css"]),
        ("HEAD /style.css HTTP/1.1", "200", "-"),
        ("GET /style.css?a=b HTTP/1.1", "200", size["style.css"]),
        ("GET /style.css HTTP/1.1", "304", "-"),
        ("GET /none HTTP/1.1", str(missing[0].status), str(len(missing[1]))),
        ("GET /stats.tml HTTP/1.1", "200", str(len(made[1]))),
    ]
    assert found[2].referer == "http://a.example/?q"
    assert found[2].agent == "Me/1.0 (x)"
    assert (found[0].referer, found[0].agent) == ("-", "-")


def test_requests_on_one_connection(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    if name == "tcllib":
        pytest.skip("tcllib's server closes after each answer")
    with (
        serve(engine, name, tmp_path, "--access-log", str(log)) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, DEADLINE)) as connection,
    ):
        for number in range(10):
            connection.request("GET", f"/icon.png?{number}", headers={"Referer": f"r{number}"})
            connection.getresponse().read()
        connection.request("GET", "/style.css")  # What one request had is not the next one's.
        connection.getresponse().read()
        found = wait_for_entries(log, 11)
    assert entries(log) == found
    assert [(e.request, e.referer) for e in found] == [
        *((f"GET /icon.png?{number} HTTP/1.1", f"r{number}") for number in range(10)),
        ("GET /style.css HTTP/1.1", "-"),
    ]


def test_hostile_bytes(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    agent = b'a "quoted" \\ back\x01\x1b[31m tab\there\x7f'
    with serve(engine, name, tmp_path, "--access-log", str(log)) as server:
        server.raw(
            b'GET /none"x\\y HTTP/1.0\r\nHost: a\r\n'
            b"User-Agent: " + agent + b"\r\nReferer: \xc3\xa9\r\n\r\n"
        )
        (entry,) = wait_for_entries(log, 1)
    assert log.read_bytes().isascii()
    assert entry.request == r"GET /none\"x\\y HTTP/1.0"
    assert entry.agent == r"a \"quoted\" \\ back\x01\x1b[31m tab\there\x7f"
    assert entry.referer == r"\xc3\xa9"


def test_long_fields_are_one_line(engine: str, tmp_path: Path, log: Path) -> None:
    with serve(engine, "xotcl", tmp_path, "--access-log", str(log)) as server:
        long = b"\x02" * 20_000
        server.raw(b"GET / HTTP/1.0\r\nUser-Agent: " + long + b"\r\nReferer: x\r\n\r\n")
        (entry,) = wait_for_entries(log, 1)
    assert entry.agent == r"\x02" * 8190
    assert entry.referer == "x"


def test_bad_requests(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    with serve(engine, name, tmp_path, "--access-log", str(log)) as server:
        answer = server.raw(b"nonsense {\r\n\r\n")
        (entry,) = wait_for_entries(log, 1)
        # Who connects and says nothing has asked for nothing.
        server.connect().close()
        server.request("/")
        found = wait_for_entries(log, 2)
    assert entries(log) == found
    assert entry.request == "nonsense {"
    assert entry.status == (answer.split(b" ")[1].decode() if answer else "-")
    assert found[1].request == "GET / HTTP/1.1"


def test_client_that_gives_up(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    size = 50_000_000
    with (root / "large.bin").open("wb") as large:
        large.truncate(size)
    with serve(engine, name, tmp_path, "--access-log", str(log), root=root) as server:
        sock = server.connect(4096)
        sock.sendall(b"GET /large.bin HTTP/1.0\r\nHost: a\r\n\r\n")
        assert sock.recv(1, socket.MSG_PEEK) == b"H"
        reset(sock)
        (entry,) = wait_for_entries(log, 1)
    assert entries(log) == [entry]
    assert entry.status == "200"
    assert entry.bytes == "-" or int(entry.bytes) < size


def test_standard_output(engine: str, tmp_path: Path, name: str) -> None:
    with serve(engine, name, tmp_path, "--access-log", "-") as server:
        server.request("/style.css")
        line = server.line()
    found = COMBINED.fullmatch(line)
    assert found, line
    assert Entry(*found.groups()).request == "GET /style.css HTTP/1.1"


def hammer(server: Server, asked: list[int], stop: threading.Event) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, DEADLINE)) as connection:
        while not stop.is_set():
            connection.request("GET", "/style.css")
            connection.getresponse().read()
            asked[0] += 1


def under_load(servers: list[Server], body: Callable[[], object]) -> int:
    """Call *body* while each server answers requests, and return how many there were."""
    stop, asked = threading.Event(), [[0] for _ in servers]
    threads = [
        threading.Thread(target=hammer, args=(server, count, stop))
        for server, count in zip(servers, asked, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        body()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return sum(count[0] for count in asked)


def test_rotation(engine: str, tmp_path: Path, name: str, log: Path) -> None:
    """Every answer is in one file or the next, however often they are renamed."""
    own = tmp_path / "own.log"
    rotated: list[Path] = []
    options = ["--access-log", str(log), "--log-file", str(own)]
    with serve(engine, name, tmp_path, *options) as server:

        def rotate() -> None:
            for number in range(5):
                for file in (log, own):
                    rotated.append(file.with_suffix(f".{number}"))
                    file.rename(rotated[-1])
                server.process.send_signal(signal.SIGUSR1)
                wait_for(lambda: all(f.exists() and f.stat().st_size > 0 for f in (log, own)))

        asked = under_load([server], rotate)
        files = [path for path in [*rotated, log] if path.stem == "access"]
        wait_for(lambda: sum(file.read_bytes().count(b"\n") for file in files) >= asked)
        assert len(entries(*files)) == asked
        assert "serving" in own.with_suffix(".0").read_text()
        assert "opened anew" in own.with_suffix(".1").read_text()
    assert "ended with exit code 0" in own.read_text()


def test_a_file_that_several_share(engine: str, tmp_path: Path, log: Path) -> None:
    options = ("--access-log", str(log))
    with (
        serve(engine, "xotcl", tmp_path, *options) as first,
        serve(engine, "xotcl", tmp_path, *options) as second,
    ):
        # The end of a line may be seen before all of it is there: that is the kernel's affair.
        asked = under_load(
            [first, second], lambda: wait_for(lambda: log.read_bytes().count(b"\n") > 200)
        )
        assert len(wait_for_entries(log, asked)) == asked


def test_lines_are_whole(tmp_path: Path, log: Path) -> None:
    """Two processes write as fast as they can, and more at a time than a usual buffer holds."""
    script = tmp_path / "write.tcl"
    script.write_text(
        f"source {TCL_DIR / 'access.tcl'}\n"
        "lassign $argv file char\n"
        "::tclchan::access::start $file\n"
        "set agent [string repeat $char 8000]\n"
        "for {set i 0} {$i < 2000} {incr i} {\n"
        '    ::tclchan::access::entry h "" 0 $i 200 1 "" $agent\n'
        "}\n"
    )
    writers = [subprocess.Popen(["tclsh", script, log, letter]) for letter in "ab"]
    assert [writer.wait(DEADLINE) for writer in writers] == [0, 0]
    found = entries(log)
    assert {entry.agent for entry in found} == {"a" * 8000, "b" * 8000}
    assert sorted(int(entry.request) for entry in found) == sorted([*range(2000)] * 2)


def test_rotation_that_fails(engine: str, tmp_path: Path) -> None:
    """The directory is gone: the old files go on, and it is said in the log."""
    directory = tmp_path / "logs"
    directory.mkdir()
    log = directory / "access.log"
    own = ("--log-file", str(tmp_path / "own.log"))
    with serve(engine, "xotcl", tmp_path, "--access-log", str(log), *own) as server:
        moved = directory.rename(tmp_path / "elsewhere")
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "cannot be opened anew" in (tmp_path / "own.log").read_text())
        server.request("/")
        wait_for_entries(moved / "access.log", 1)


def test_the_signal_interrupts_nothing(engine: str, tmp_path: Path) -> None:
    """A page that waits for the system goes on waiting."""
    root, fifo, began = tmp_path / "root", tmp_path / "fifo", tmp_path / "began"
    root.mkdir()
    os.mkfifo(fifo)
    script = f"close [open {began} w]; set in [open {fifo}]; set line [gets $in]; close $in"
    (root / "slow.tml").write_text(f"[{script}; set line]")
    bodies: list[bytes] = []
    with serve(engine, "xotcl", tmp_path, root=root) as server:
        client = threading.Thread(target=lambda: bodies.append(server.request("/slow.tml")[1]))
        client.start()
        wait_for(began.exists)
        status = Path(f"/proc/{server.pid}/status")
        for _ in range(50):
            server.process.send_signal(signal.SIGUSR1)
            wait_for(lambda: re.search(r"ShdPnd:\s0+\n", status.read_text()))
        with contextlib.suppress(OSError):  # The page does not read any more.
            fifo_fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fifo_fd, b"the line\n")
            os.close(fifo_fd)
        client.join()
    assert bodies == [b"the line"]


def test_full_disk(engine: str, tmp_path: Path) -> None:
    with serve(engine, "xotcl", tmp_path, "--access-log", "/dev/full") as server:
        for _ in range(3):
            assert server.request("/")[0].status == 200
        wait_for(lambda: "the access log cannot be written: " in server.stderr())
        assert server.stderr().count("\n") == 1
        assert "no space left on device" in server.stderr()


def test_full_disk_for_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is told once, and again when there has been space in between."""
    full, file = Path("/dev/full"), tmp_path / "log"
    told = "tclchan: the log cannot be written: No space left on device\n"
    with closing(LineHandler(full)) as handler:
        for _ in range(3):
            handler.handle(record("lost"))
        assert capfd.readouterr().err == told
        with closing(LineHandler(file)) as other:
            # As if space came and went.
            fd, handler._fd = handler._fd, other._fd
            handler.handle(record("kept"))
            handler._fd = fd
        handler.handle(record("lost"))
    assert capfd.readouterr().err == told
    assert file.read_text() == "kept\n"


def test_background_errors(engine: str, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "late.tml").write_text("[after 0 {error {too late\nby far}}; list]done")
    own = tmp_path / "own.log"
    options = ("--log-file", str(own), "--log-format", "json")
    with serve(engine, name, tmp_path, *options, root=root) as server:
        assert b"done" in server.request("/late.tml")[1]
        wait_for(lambda: "background error: " in own.read_text())
        banner, pid = server.banner, server.pid
    first, error, last = (json.loads(line) for line in own.read_text().splitlines())
    assert (first["message"], last["message"]) == (banner, "ended with exit code 0")
    assert error["level"] == "ERROR"
    assert error["logger"] == "tclchan.tcl"
    assert error["message"] == "background error: too late\nby far"
    assert error["pid"] == pid
    assert '("after" script)' in error["errorinfo"]


def test_no_log(cli: Run, tmp_path: Path) -> None:
    for option in ("--log-file", "--access-log"):
        done = cli("httpd", "--root", str(SITE), "--port", "0", option, str(tmp_path / "no" / "x"))
        assert done.returncode == 1
        assert "no such file or directory" in done.stderr.lower()
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "a.b", "levelname": "INFO", "msg": message, "created": 1.5, "process": 7}
    )
    vars(made).update(fields)
    return made


def test_json() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        info = sys.exc_info()
    line = JsonFormatter().format(record("a\nb\udcff", n=1, path=Path("/x"), exc_info=info))
    assert "\n" not in line
    found = json.loads(line)
    assert "ValueError: no" in found.pop("exception")
    assert found == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "INFO",
        "logger": "a.b",
        "pid": 7,
        "message": "a\nb\udcff",
        "n": 1,
        "path": "/x",
    }


def test_text() -> None:
    line = TextFormatter().format(record("a\nb\x1b[31m", n=1, path="/x", text='say "a"\n'))
    assert line == (
        r"1970-01-01T00:00:01.500Z INFO a.b[7]: a\nb\x1b[31m n=1 path=/x "
        r'text="say \"a\"\n"'
    )


def test_records_are_whole(tmp_path: Path) -> None:
    """Two processes write long records to one file."""
    file = tmp_path / "log"
    code = (
        "import logging, sys; from tclchan._logs import logging_to\n"
        "with logging_to(sys.argv[1], 'text', 'info'):\n"
        "    for _ in range(50): logging.info(sys.argv[2] * 100_000)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(file), letter], cwd=tmp_path)
        for letter in "ab"
    ]
    assert [writer.wait(DEADLINE) for writer in writers] == [0, 0]
    texts = [line.split(": ")[1] for line in file.read_text().splitlines()]
    assert sorted(texts) == ["a" * 100_000] * 50 + ["b" * 100_000] * 50


def test_reopening(tmp_path: Path) -> None:
    file, old = tmp_path / "log", tmp_path / "old"
    with closing(LineHandler(file)) as handler:
        before = len(os.listdir("/proc/self/fd"))
        handler.emit(record("one"))
        file.rename(old)
        handler.emit(record("two"))
        handler.reopen()
        handler.emit(record("three"))
        assert len(os.listdir("/proc/self/fd")) == before
    assert (old.read_text(), file.read_text()) == ("one\ntwo\n", "three\n")
