"""``tclchan bench``, in the quick form: that everything is measured, checked and told.

No figure is compared with another one: what is fast is for the benchmark itself to find out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENGINES, Run, tclsh_of

from tclchan.bench import load
from tclchan.bench.contenders import Contender, Tclsh, find_tclsh
from tclchan.bench.errors import BenchError, Died, Failure, LeftOut
from tclchan.bench.load import PATTERN, Work
from tclchan.bench.machine import Machine
from tclchan.bench.marks import Mark
from tclchan.bench.report import to_json, to_text
from tclchan.bench.rounds import Result, measure
from tclchan.bench.server import Server
from tclchan.bench.workloads import WORKLOADS, Workload, chosen
from tclchan.bench.workloads import Run as Conditions

USABLE = [info.name for info in ENGINES if info.usable]
SENDCAPS = [w.name for w in WORKLOADS if w.kind == "sendcap"]
# Of those that differ in one number only, the first shows that they work.
SHOWN = [w.name for w in WORKLOADS if w.name not in SENDCAPS[1:]]


def quick(cli: Run, tmp_path: Path, *args: str) -> tuple[str, dict[str, Any]]:
    """What a run says, and the same for programs."""
    file = tmp_path / "found.json"
    done = cli("bench", "--quick", "--json", str(file), *args)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text())


def check_entry(entry: dict[str, Any]) -> None:
    """Each entry has the figures of all rounds, or a reason why there are none."""
    assert entry["failure"] == ""
    assert {"workload", "title", "unit", "contender", "tcl", "engine", "mode", "core"} < set(entry)
    if entry["left_out"] or entry["aborts"]:
        assert entry["rounds"] == []
        return
    (once,) = entry["rounds"]
    assert once["cpu_us_per_unit"] > 0
    assert once["units_per_s"] > 0
    for figure in ("cpu_us_per_unit", "units_per_s"):
        assert entry[figure]["median"] == once[figure]
        assert entry[figure]["spread"] == 0
        assert all(ratio > 0 for ratio in entry[figure]["ratio_to"].values())
    for name, value in entry["extra"].items():
        assert value == once[name]


@pytest.mark.parametrize("name", SHOWN)
def test_each_workload(cli: Run, tmp_path: Path, name: str) -> None:
    args = ("--workload", name, "--engine", USABLE[0], "--mode", "host")
    text, found = quick(cli, tmp_path, *args)
    assert f"\n{name}: " in text
    entries = {entry["contender"]: entry for entry in found["results"]}
    tcl = found["tclsh"][0]["patchlevel"]
    names = [f"{tcl} core", f"{tcl} {USABLE[0]} host"]
    copies = name.startswith("download") and not name.endswith("-copy")
    marks = ["sendfile"] * name.startswith("download") + ["read+send"] * copies
    assert list(entries) == names + marks
    for entry in entries.values():
        check_entry(entry)
        assert entry["workload"] == name
        assert (
            entry["left_out"]
            or entry["aborts"]
            or re.search(rf"\n  {re.escape(entry['contender'])} +[\d.,]+ ", text)
        )
    core, driver = (entries[name] for name in names)
    if name in ("keepalive-2000", "keepalive-10000"):
        assert "select takes no descriptor over 1,023" in core["aborts"]
        assert "8.6.13 core: it aborts: " in text.replace(tcl, "8.6.13")
        assert driver["cpu_us_per_unit"]["ratio_to"] == {}
    elif not (name.endswith(("-copy", "-busypoll")) and driver["left_out"]):
        assert driver["left_out"] == ""
        assert bool(core["left_out"]) == name.startswith("sendcap")
        assert list(driver["cpu_us_per_unit"]["ratio_to"]) == [names[0]] * (not core["left_out"])
    extra = {
        "idle": {
            "idle_connections",
            "memory_bytes_per_connection",
            "memory_bytes_per_used_connection",
            "cpu_ratio_to_none_idle",
        },
        "newcomers": {"last_newcomer_ms"},
        "slow": {"slowest_kB_per_s", "cpu_ratio_to_none_slow"},
        "files": {"p50_us", "p99_us"},
        "latency": {"p50_us", "p99_us"},
        SENDCAPS[0]: {"buffers_per_read"},
    }
    assert extra.get(name, set()) <= set(driver["extra"])


def test_all_contenders(cli: Run, tmp_path: Path) -> None:
    """Two Tcls where there are two, all engines, both modes, in turns; the head names them all."""
    tclshs = [t for t in (tclsh_of("8.6"), tclsh_of("9.0")) if t is not None]
    args = [word for tclsh in tclshs for word in ("--tclsh", tclsh.path)]
    text, found = quick(cli, tmp_path, "--workload", "echo-1", *args)
    expected = []
    for tclsh in found["tclsh"]:
        assert tclsh["missing"] == ""
        expected.append(f"{tclsh['patchlevel']} core")
        expected += [
            f"{tclsh['patchlevel']} {engine} {mode}"
            for engine in USABLE
            for mode in ("guest", "host")
        ]
    assert [entry["contender"] for entry in found["results"]] == expected
    cores = [name for name in expected if name.endswith(" core")]
    for entry in found["results"]:
        check_entry(entry)
        assert list(entry["cpu_us_per_unit"]["ratio_to"]) == cores
        assert entry["core"] == (entry["contender"] in cores)
    for name in cores:
        assert text.count(f"/{name}  ") == 2
    machine = found["machine"]
    head = text.split("\n\n")[0]
    for fact in (machine["cpu"], machine["kernel"], machine["pinning"], *USABLE):
        assert fact in head
    assert all(tclsh["patchlevel"] in head for tclsh in found["tclsh"])
    assert "quick: " in head


def test_nothing_pinned(cli: Run, tmp_path: Path) -> None:
    args = ("--workload", "accept", "--engine", USABLE[0], "--mode", "guest", "--no-pin")
    text, found = quick(cli, tmp_path, *args)
    assert found["machine"]["server_cpu"] is None
    assert found["machine"]["load_cpu"] is None
    assert found["machine"]["pinning"] in text


def test_outer_marks(cli: Run, tmp_path: Path) -> None:
    found = [name for name in ("nginx", "uvicorn") if not missing(cli, name)]
    if "io_uring" in USABLE:
        found.insert(0, "floor")
    if not found:
        pytest.skip("neither nginx nor uvicorn is installed, and there is no io_uring")
    names = ("keepalive-1", "short")
    args = ("--workload", *names, "--mode", "host", "--engine", USABLE[-1])
    _, report = quick(cli, tmp_path, *args, "--with", ",".join(found))
    for entry in report["results"]:
        check_entry(entry)
        assert list(entry["cpu_us_per_unit"]["ratio_to"]) == [report["results"][0]["contender"]]
    marks = [(e["workload"], e["contender"]) for e in report["results"] if not e["tcl"]]
    assert marks == [(workload, mark) for workload in names for mark in found]
    left = [path for path in Path("/proc").glob("[0-9]*/cwd") if is_at(path, tmp_path)]
    assert left == []


def is_at(link: Path, directory: Path) -> bool:
    """Whether a process has a directory as its own, as what this command started has."""
    try:
        return link.readlink() == directory
    except OSError:
        return False


def missing(cli: Run, name: str) -> bool:
    """Whether a mark cannot be had here; then the command says so."""
    there = (
        shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if name == "nginx"
        else all(map(importlib.util.find_spec, ("uvicorn", "uvloop", "httptools")))
    )
    if not there:
        done = cli("bench", "--quick", "--workload", "short", "--with", name)
        assert done.returncode == 1
        assert re.search(rf'{name}.*: "[a-z-]+ install [a-z ]*" does that\n$', done.stderr)
    return not there


def test_a_picture(cli: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    args = ("--engine", USABLE[0], "--plot", str(picture))
    quick(cli, tmp_path, "--workload", "accept", *SENDCAPS[:2], *args)
    assert picture.read_bytes().startswith(b"\x89PNG")


WITHOUT = """
import sys
sys.modules["matplotlib"] = sys.modules["rich"] = None
from tclchan import _cli
sys.stderr.isatty = lambda: True
sys.exit(_cli.main(["bench", "--quick", "--workload", "accept", "--mode", "host", *sys.argv[1:]]))
"""


def test_without_the_optional_packages(run_python: Run, tmp_path: Path) -> None:
    done = run_python("-c", WITHOUT)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_python("-c", WITHOUT, "--plot", str(tmp_path / "picture.png"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith('not installed: "pip install tclchan[bench]" does that\n')


def test_the_list(cli: Run) -> None:
    done = cli("bench", "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [w.name for w in WORKLOADS]
    help_text = cli("bench", "--help").stdout
    for option in ("--json", "--plot", "--rounds", "--seconds", "--workload", "--list", "--engine",
                   "--mode", "--tclsh", "--pin", "--quick", "--with"):  # fmt: skip
        assert re.search(rf"\n  {option}\b", help_text)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--workload", "dance"], 1, 'unknown workload "dance": --list prints them'),
        (["--engine", "steam"], 2, 'engine "steam" cannot be used here: must be '),
        (["--mode", "both"], 2, "invalid choice: 'both'"),
        (["--tclsh", "/nowhere/tclsh"], 1, '"/nowhere/tclsh" is no program: name a tclsh with'),
        (["--tclsh", "false"], 1, '"false" is no tclsh: it says nothing'),
        (["--rounds", "0"], 2, "--rounds must be more than 0"),
        (["--seconds", "-1"], 2, "--seconds must be more than 0"),
        (["--with", "apache"], 1, 'unknown server "apache": --with takes floor, nginx and uvicorn'),
        (["--json", "/nowhere/x.json"], 1, '"/nowhere/x.json" cannot be written: No such file'),
        (["--json", "/proc/version"], 1, '"/proc/version" cannot be written: '),
        (["--json", "/dev/full"], 1, '"/dev/full" cannot be written: No space left on device'),
        (["--json", "/"], 1, '"/" cannot be written: Is a directory'),
    ],
)
def test_wrong_calls(cli: Run, args: list[str], code: int, message: str) -> None:
    done = cli("bench", "--quick", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_wrk(cli: Run) -> None:
    done = cli("bench", "--workload", "short", env={**os.environ, "PATH": "/nowhere"})
    assert (done.returncode, done.stdout) == (1, "")
    assert 'wrk is not installed: "apt-get install wrk" does that' in done.stderr


def test_without_the_driver(cli: Run, tmp_path: Path) -> None:
    """Of a Tcl that there is no driver for, the core's sockets are measured."""
    tclsh = tmp_path / "tclsh"
    tclsh.write_text('#!/bin/sh\n[ "${1%probe.tcl}" = "$1" ] || set -- "$1" /nowhere\n'
                     'exec tclsh "$@"\n')  # fmt: skip
    tclsh.chmod(0o755)
    text, found = quick(cli, tmp_path, "--workload", "accept", "--tclsh", str(tclsh))
    (entry,) = found["results"]
    check_entry(entry)
    assert entry["core"]
    assert re.search(r"has no driver: can't find package", text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(tmp_path: Path, number: int) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "tclchan",
        "bench",
        "--workload",
        "idle",
        "--rounds",
        "9",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        pids: list[str] = []
        deadline = time.monotonic() + 20
        while len(pids) < 2:  # The server and wrk.
            assert bench.poll() is None
            assert time.monotonic() < deadline
            pids = children.read_text().split()
            time.sleep(0.01)
        bench.send_signal(number)
        out, err = bench.communicate(timeout=20)
    assert (bench.returncode, out) == (130, "")
    assert err == "tclchan bench: interrupted\n"
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


# From here on the parts, on servers that answer wrongly.


class WrongServer(Server):
    """A server within this process, for the load to find something wrong with."""

    def __init__(self, port: int) -> None:
        self.ports = [port]

    def cpu_ns(self) -> int:
        return time.process_time_ns()

    def descriptors(self) -> int:
        return 0

    def check(self) -> None:
        pass


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[WrongServer]:
    """Answer each connection with *reply* when it has said something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        over = threading.Event()
        kept: list[socket.socket] = []

        def serve() -> None:
            while not over.is_set():
                try:
                    sock = listener.accept()[0]
                except TimeoutError:
                    continue
                kept.append(sock)
                sock.settimeout(5)
                with contextlib.suppress(OSError):  # wrk connects once just to see if it can.
                    sock.recv(65536)
                    sock.sendall(reply)
                    sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield WrongServer(listener.getsockname()[1])
        finally:
            over.set()
            thread.join()
            for sock in kept:
                sock.close()


def test_wrong_echoes_are_found(tmp_path: Path) -> None:
    data = PATTERN.write(tmp_path / "data", 1000)
    right = data.read_bytes()
    for reply, message in (
        (right[:500] + b"?" + right[501:], "wrong reply: it differs after 0 bytes"),
        (right + b"?", "wrong reply: it differs after 0 bytes"),
        (right[:500], "the server ended the connection: end of file"),
    ):
        with answering(reply) as server, pytest.raises(Died, match=message):
            load.exchange(server, 1, 0.2, data, data)


def test_what_accepts_and_speaks_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with listener.accept()[0] as sock:
                sock.sendall(b"?")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(Died, match="there should be none"):
            load.accept_storm(WrongServer(listener.getsockname()[1]), 1, 0.2)
        thread.join()


def test_wrong_files_are_found() -> None:
    right = PATTERN.at(0, 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    for reply, message in (
        (head + right[:-1], "99999 bytes came of a file of 100000"),
        (head + right[:50_000] + b"?" + right[50_001:], "wrong bytes after"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "wrong reply"),
        (b"", "wrong reply: b''"),
    ):
        with answering(reply) as server, pytest.raises(Failure, match=message):
            load.download_once(server.ports[0], 100_000, whole=True)


def test_wrong_pages_are_found() -> None:
    for reply in (b"HTTP/1.1 500 No\r\n\r\nbody", b"HTTP/1.1 200 OK\r\n\r\nbodY", b""):
        with answering(reply) as server, pytest.raises(Failure, match="wrong reply"):
            load.check_page(server.ports[0], "/", b"body")


def test_wrk_counts_errors_and_bytes() -> None:
    right = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with answering(right) as server:
        assert load.wrk(server, 1, 0.2, len(right)).units > 0
        with pytest.raises(Failure, match=r"replies of 7 bytes were \d+"):
            load.wrk(server, 1, 0.2, 7)
    wrong = right.replace(b"200 OK", b"500 No")
    with answering(wrong) as server, pytest.raises(Failure, match="answered with an error"):
        load.wrk(server, 1, 0.2, len(wrong))


MACHINE = Machine("a processor", 2, "Linux 6", 0, 1, 5000)
TCLSH = Tclsh("/bin/tclsh", "8.6.13", ("epoll",))
CORE, RING = Contender(TCLSH), Contender(TCLSH, "epoll", "host")


def test_rounds_go_there_and_back(tmp_path: Path) -> None:
    """What is left out, aborts or fails is not asked for again, and the others go on."""
    asked: list[str] = []

    def work(run: Conditions, contender: Contender | Mark) -> Work:
        asked.append(contender.name)
        if contender is RING:
            raise Failure("no reply")
        return Work(10, 2, 1000 * len(asked))

    def abort(run: Conditions, contender: Contender | Mark) -> Work:
        asked.append(contender.name)
        raise LeftOut("no such thing") if contender is RING else Died("tclsh", -6, "oops\n")

    workloads = [
        Workload("works", "a test", "thing", work, ("nginx",)),
        Workload("aborts", "a test", "thing", abort, connections=2000),
        Workload("large", "a test", "thing", work, connections=4900),
    ]
    run = Conditions(MACHINE, 1.0, False, tmp_path, {("works", "nginx"): "a note"})
    nginx = Mark("nginx", None, 100)
    steps: list[str] = []
    results = measure(run, workloads, [CORE, RING], [nginx], 2, steps.append)
    assert asked[:5] == [CORE.name, RING.name, "nginx", "nginx", CORE.name]
    assert asked[5:] == [CORE.name, RING.name]
    assert len(steps) == 2 * (3 + 2 + 2)
    text = to_text(MACHINE, [TCLSH], run, 2, results)
    assert f"{RING.name}: FAILED: no reply" in text
    assert "nginx: a note" in text
    assert f"{CORE.name}: it aborts: " in text
    assert f"{RING.name}: left out: no such thing" in text
    assert "all: left out: 4,900 connections need more than 5,000 descriptors" in text
    found = to_json(MACHINE, [TCLSH], run, 2, results)
    by_name = {(e["workload"], e["contender"]): e for e in found["results"]}
    core, mark = by_name["works", CORE.name], by_name["works", "nginx"]
    assert core["cpu_us_per_unit"]["median"] == pytest.approx((0.1 + 0.5) / 2)
    assert core["cpu_us_per_unit"]["spread"] == pytest.approx(0.2 / 0.3)
    assert mark["cpu_us_per_unit"]["ratio_to"] == {CORE.name: pytest.approx(0.35 / 0.3)}
    assert mark["note"] == "a note"
    assert by_name["works", RING.name]["failure"] == "no reply"


def test_an_abort_elsewhere_is_a_failure(tmp_path: Path) -> None:
    def abort(run: Conditions, contender: Contender | Mark) -> Work:
        raise Died("tclsh", -6, "")

    run = Conditions(MACHINE, 1.0, False, tmp_path, {})
    for contender, connections in ((CORE, 64), (RING, 2000)):
        workload = Workload("aborts", "a test", "thing", abort, connections=connections)
        (result,) = measure(run, [workload], [contender], [], 1, lambda what: None)
        assert isinstance(result, Result)
        assert result.failure == "tclsh ended by SIGABRT"


def test_names_and_kinds() -> None:
    assert [w.name for w in chosen(["sendcap"])] == SENDCAPS
    assert [w.name for w in chosen(["echo-1k", "accept"])] == ["accept", "echo-1k"]
    assert len({w.name for w in WORKLOADS}) == len(WORKLOADS)
    with pytest.raises(BenchError, match='unknown workload "echo-2"'):
        chosen(["echo-2"])


def test_what_a_tclsh_has() -> None:
    tclsh = find_tclsh("tclsh")
    assert tclsh.missing == ""
    assert tclsh.engines == USABLE
    assert "-sendcap" in tclsh.features
    assert tclsh.servers == {"xotcl", "tcllib"}
