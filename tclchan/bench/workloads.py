"""What is measured.

A workload knows how to measure one contender once: it starts the server, has a look at one reply,
and puts the load on. Those whose names begin alike are of one kind, which has that name.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import load
from .contenders import TCL_DIR, Contender
from .errors import BenchError, Failure, LeftOut
from .load import MB, PATTERN, Work
from .machine import Machine
from .marks import BODY, FILE_MARKS, Mark
from .server import Server, running

BUSY_CONNECTIONS = 64
IDLE_CONNECTIONS = 50_000
SLOW_READERS = 500
NEWCOMERS = 500
NEWCOMERS_BESIDE = 400
# Their opening is in the figures of wrk, so it must not weigh; quickly, they are just to be there.
_CONNECTIONS_PER_SECOND = 1000
_QUICK_CONNECTIONS_PER_SECOND = 4000
_SETTLE_SECONDS = 10.0
_SETTLED_NS = 250_000_000
_SETTLED_SHARE = 0.3
_CHUNK_BYTES = {"slow.tcl": 16_001, "sender.tcl": 65_537}
_PAGE_BYTES = 4000


@dataclass
class Run:
    """The conditions of all measurements.

    Attributes:
        machine: the machine, as it was prepared.
        seconds: how long a measurement takes.
        quick: whether this only shows that everything works.
        work: a directory for files.
        notes: what was done otherwise than the workload's title says, by workload and contender.
    """

    machine: Machine
    seconds: float
    quick: bool
    work: Path
    notes: dict[tuple[str, str], str]

    @property
    def file_bytes(self) -> int:
        """The size of the large file."""
        return 4 * MB if self.quick else 256 * MB

    def file(self, name: str, size: int) -> Path:
        """A file of that many bytes of `PATTERN`, made when it is first asked for."""
        path = self.work / name
        return path if path.exists() else PATTERN.write(path, size)

    def text(self, name: str, content: bytes) -> Path:
        """A file of that content."""
        path = self.work / name
        path.write_bytes(content)
        return path


@dataclass(frozen=True)
class Workload:
    """One row of the comparison.

    Attributes:
        name: what ``--workload`` calls it.
        title: what it is, in a line.
        unit: what is counted.
        measure: does it once, for a run and a contender.
        marks: the servers without Tcl that can do it.
        connections: how many connections there are at once.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Run, Contender | Mark], Work]
    marks: Sequence[str] = ()
    connections: int = 0

    @property
    def kind(self) -> str:
        """The first word of its name."""
        return self.name.partition("-")[0]


def pages(contender: Contender | Mark, keepalive: bool) -> AbstractContextManager[Server]:
    """A server that answers with `BODY`."""
    if isinstance(contender, Mark):
        return contender.serve_pages(keepalive)
    if keepalive:
        return contender.serve("http.tcl", options="")
    return contender.serve("short.tcl")


def keepalive(run: Run, contender: Contender | Mark, connections: int) -> Work:
    """Requests over connections that are kept alive."""
    if run.quick:
        connections = min(connections, 2000)
        seconds = max(run.seconds, connections / _QUICK_CONNECTIONS_PER_SECOND)
    else:
        seconds = max(run.seconds, connections / _CONNECTIONS_PER_SECOND)
    limit = contender.connections if isinstance(contender, Contender) else None
    with pages(contender, keepalive=True) as server:
        size = load.check_page(server.ports[0], "/", BODY.encode())
        if limit is not None and connections > limit:
            # Under load, Tcl 8.6 takes so long to accept them that it may never have too many.
            with load.idle_connections(server, connections):
                load.check_page(server.ports[0], "/", BODY.encode())
        return load.wrk(server, connections, seconds, size)


def short(run: Run, contender: Contender | Mark, connections: int) -> Work:
    """Requests over a new connection for each."""
    with pages(contender, keepalive=False) as server:
        size = load.check_page(server.ports[0], "/", BODY.encode())
        return load.wrk(server, connections, run.seconds, size)


def accept(run: Run, contender: Contender | Mark, connections: int) -> Work:
    """Connections that are opened in bursts and closed at once."""
    with tcl(contender).serve("accept.tcl") as server:
        return load.accept_storm(server, connections, run.seconds)


def download(run: Run, contender: Contender | Mark, buffer_size: int, copy: str) -> Work:
    """A large file to one client."""
    path = run.file("large", run.file_bytes)
    if isinstance(contender, Mark):
        serving = contender.serve_file(path, buffer_size)
    else:
        copy = _copy_command(contender, copy)
        serving = contender.serve("download.tcl", path=path, copy=copy, bufferSize=buffer_size)
    with serving as server:
        # Comparing all of it takes the client as long as receiving it: once is enough.
        load.download_once(server.ports[0], run.file_bytes, whole=True)
        return load.download(server, run.file_bytes, run.seconds)


def upload(run: Run, contender: Contender | Mark, buffer_size: int, copy: str) -> Work:
    """As many bytes as the large file has, from one client into a file."""
    path = run.work / "upload"
    copy = _copy_command(tcl(contender), copy)
    serving = tcl(contender).serve("upload.tcl", path=path, copy=copy, bufferSize=buffer_size)
    with serving as server:
        return load.upload(server, run.file_bytes, run.seconds)


def echo(run: Run, contender: Contender | Mark, size: int, connections: int) -> Work:
    """Bytes that come back, over connections each of which waits for its own."""
    data = run.file(f"echo-{size}", size)
    with tcl(contender).serve("echo.tcl") as server:
        return load.exchange(server, connections, run.seconds, data, data)


def idle(run: Run, contender: Contender | Mark) -> Work:
    """Busy connections among idle ones, and before there were any in the same process."""
    wanted = 300 if run.quick else IDLE_CONNECTIONS
    count = _at_most(run, contender, "idle", wanted, BUSY_CONNECTIONS)
    with pages(contender, keepalive=True) as server:
        size = load.check_page(server.ports[0], "/", BODY.encode())
        alone = load.wrk(server, BUSY_CONNECTIONS, run.seconds, size)
        with load.idle_connections(server, count):
            # They are accepted one after the other, so it has all of them when it answers this.
            load.check_page(server.ports[0], "/", BODY.encode())
            work = load.wrk(server, BUSY_CONNECTIONS, run.seconds, size)
    fresh, used = _idle_memory(contender, count)
    work.extra |= {
        "idle_connections": count,
        "memory_bytes_per_connection": fresh / count,
        "memory_bytes_per_used_connection": used / count,
        "cpu_ratio_to_none_idle": _cpu_ratio(work, alone),
    }
    return work


def _idle_memory(contender: Contender | Mark, count: int) -> tuple[int, int]:
    """What they take before and after a request on each.

    In a process that has not served others, whose memory they would get.
    """
    body = BODY.encode()
    with pages(contender, keepalive=True) as server:
        load.check_page(server.ports[0], "/", body)
        before = server.private_bytes()
        with load.idle_connections(server, count) as socks:
            load.check_page(server.ports[0], "/", body)
            fresh = server.private_bytes() - before
            for sock in socks:
                load.check_reply(sock, "/", body)
            return max(0, fresh), max(0, server.private_bytes() - before)


def newcomers(run: Run, contender: Contender | Mark) -> Work:
    """Busy connections, and beside them clients that connect at once, over and over."""
    count = 50 if run.quick else NEWCOMERS
    waits: list[float] = []
    with pages(contender, keepalive=True) as server:
        size = load.check_page(server.ports[0], "/", BODY.encode())

        def come(_: float) -> None:
            waits.append(load.newcomers(server.ports[0], count, BODY.encode()))

        work = load.wrk(server, NEWCOMERS_BESIDE, run.seconds, size, meanwhile=come)
    # Of those, the last have not all been closed yet.
    del work.extra["connections_accepted"]
    work.extra["last_newcomer_ms"] = statistics.median(waits) * 1e3
    return work


def slow(run: Run, contender: Contender | Mark) -> Work:
    """Requests of some clients while others take a stream slowly."""
    wanted = 50 if run.quick else SLOW_READERS
    chunk_bytes = _CHUNK_BYTES["slow.tcl"]
    chunk = run.file("slow", chunk_bytes)
    serving = tcl(contender).serve("http.tcl slow.tcl", options="", path=chunk)
    with serving as server:
        size = load.check_page(server.ports[0], "/", BODY.encode())
        alone = load.wrk(server, BUSY_CONNECTIONS, run.seconds, size)
        with load.slow_readers(server.ports[1], wanted, PATTERN.at(0, chunk_bytes)) as readers:
            _settle(server, readers)
            before = list(readers.received)
            work = load.wrk(server, BUSY_CONNECTIONS, run.seconds, size, meanwhile=readers.take)
            taken = [now - then for now, then in zip(readers.received, before, strict=True)]
    work.extra |= {
        "slowest_kB_per_s": min(taken) / work.seconds / 1e3,
        "cpu_ratio_to_none_slow": _cpu_ratio(work, alone),
    }
    return work


def _settle(server: Server, readers: load.SlowReaders) -> None:
    """Wait until the server waits for the readers, with the kernel's buffers full."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        began, cpu_ns = time.monotonic_ns(), server.cpu_ns()
        while time.monotonic_ns() - began < _SETTLED_NS:
            readers.take(_SETTLED_NS / 1e9)
        share = (server.cpu_ns() - cpu_ns) / (time.monotonic_ns() - began)
        if min(readers.received) > 0 and share < _SETTLED_SHARE:
            return


def files(run: Run, contender: Contender | Mark, connections: int) -> Work:
    """A small file whose header is written by itself, over kept-alive connections."""
    path = run.file("page.html", _PAGE_BYTES)
    with tcl(contender).serve("files.tcl", path=path) as server:
        size = load.check_page(server.ports[0], "/", PATTERN.at(0, _PAGE_BYTES))
        return load.wrk(server, connections, run.seconds, size)


def httpd(run: Run, contender: Contender | Mark, server: str, connections: int) -> Work:
    """A small file by a web server that is installed."""
    if server not in tcl(contender).tclsh.servers:
        raise LeftOut(f"this tclsh has no {server} with a web server")
    root = run.work / "site"
    root.mkdir(exist_ok=True)
    page = PATTERN.write(root / "page.html", _PAGE_BYTES)
    hosting = TCL_DIR.parent.parent / "tcl"
    serving = tcl(contender).serve(
        "httpd.tcl", server=server, hosting=hosting, root=root, work=run.work
    )
    with serving as process:
        path = f"/{page.name}"
        size = load.check_page(process.ports[0], path, PATTERN.at(0, _PAGE_BYTES))
        return load.wrk(process, connections, run.seconds, size, path)


def latency(run: Run, contender: Contender | Mark, options: str) -> Work:
    """One connection that waits for each answer before the next request."""
    if options:
        tcl(contender).need(options.split()[0])
        options = "" if contender.is_core else options
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nContent-Type: text/plain\r\n\r\n"
    with tcl(contender).serve("http.tcl", options=options) as server:
        return load.exchange(
            server,
            1,
            run.seconds,
            run.text("request", load.request("/")),
            run.text("reply", (reply + BODY).encode()),
        )


def sendcap(run: Run, contender: Contender | Mark, cap: int) -> Work:
    """A stream from one Tcl to another, with limits on the buffers of both."""
    contender = tcl(contender)
    contender.need("-sendcap")
    if contender.is_core:
        raise LeftOut("socket has no -sendcap")
    chunk = run.file("sendcap", _CHUNK_BYTES["sender.tcl"])
    variables = ["path", str(chunk), "sendcap", str(cap)]
    with contender.serve("sender.tcl", path=chunk, sendcap=cap) as server:
        command = [
            *(contender.tclsh.path, str(TCL_DIR / "serve.tcl"), "receiver.tcl"),
            *contender.variables(),
            *variables,
            *("port", str(server.ports[0]), "ms", str(int(1000 * run.seconds))),
        ]
        with running(command, run.machine.load_cpu, contender.environment()) as receiver:
            receiver.line(20)
            before = server.cpu_ns()
            receiver.say("go")
            words = receiver.line(run.seconds + 20).split()
            cpu_ns = server.cpu_ns() - before
    received, microseconds, buffers = map(float, words)
    if not received:
        raise Failure("nothing was received")
    return Work(received / MB, microseconds / 1e6, cpu_ns, {"buffers_per_read": buffers})


def tcl(contender: Contender | Mark) -> Contender:
    """The contender, which the workload has for Tcl only."""
    assert isinstance(contender, Contender)
    return contender


def _copy_command(contender: Contender, copy: str) -> str:
    """The command that copies. The core's sockets have fcopy to be compared with all others."""
    if copy == "fcopy":
        return copy
    contender.need(copy)
    return "fcopy" if contender.is_core else copy


def _at_most(run: Run, contender: Contender | Mark, workload: str, wanted: int, others: int) -> int:
    """So many connections as there may be beside others; if fewer than wanted, a note says why."""
    limits = [(run.machine.connections, f"{run.machine.descriptors:,} descriptors for a process")]
    if isinstance(contender, Contender) and contender.connections is not None:
        limits.append((contender.connections, "Tcl 8.6's select"))
    limit, why = min(limits)
    count = min(wanted, limit - others)
    if count < wanted:
        run.notes[workload, contender.name] = f"{count:,} in place of {wanted:,}: {why}"
    return count


def _cpu_ratio(work: Work, alone: Work) -> float:
    return (work.cpu_ns / work.units) / (alone.cpu_ns / alone.units)


def _all() -> list[Workload]:
    pages_by = ("floor", "nginx", "uvicorn")
    result = [
        Workload(
            f"keepalive-{n}",
            f"requests over {n:,} kept-alive connection{'s' * (n > 1)} (wrk)",
            "request",
            partial(keepalive, connections=n),
            pages_by,
            n,
        )
        for n in (1, 64, 900, 2000, 10_000)
    ]
    result += [
        Workload(
            "short",
            "one request for each connection, 64 at once (wrk)",
            "connection",
            partial(short, connections=64),
            pages_by,
            64,
        ),
        Workload(
            "accept",
            "bursts of 500 connections that the server closes at once",
            "connection",
            partial(accept, connections=500),
            connections=500,
        ),
    ]
    for name, title, buffer_size, copy in (
        ("4k", "fcopy, buffers of 4,096 bytes (Tcl's default)", 4096, "fcopy"),
        ("64k", "fcopy, buffers of 64 kB", 65536, "fcopy"),
        ("copy", "iocp::copy, buffers of 4,096 bytes", 4096, "::iocp::copy"),
    ):
        for kind, measure, marks in (
            ("download", download, FILE_MARKS if copy == "fcopy" else FILE_MARKS[:1]),
            ("upload", upload, ()),
        ):
            result.append(
                Workload(
                    f"{kind}-{name}",
                    f"{kind} of 256 MB by {title}",
                    "MB",
                    partial(measure, buffer_size=buffer_size, copy=copy),
                    marks,
                )
            )
    result.sort(key=lambda workload: workload.kind == "upload")
    result += [
        Workload(
            f"echo-{name}",
            f"echo of {title} over {n} connections",
            "exchange",
            partial(echo, size=size, connections=n),
            connections=n,
        )
        for name, title, size, n in (
            ("1", "1 byte", 1, 64),
            ("1k", "1 kB", 1000, 64),
            ("64k", "64 kB", 65_536, 16),
            ("1M", "1 MB", MB, 4),
        )
    ]
    result += [
        Workload(
            "idle",
            f"requests over {BUSY_CONNECTIONS} connections beside {IDLE_CONNECTIONS:,} idle ones,"
            " or as many as there can be",
            "request",
            idle,
            ("floor", "nginx"),
        ),
        Workload(
            "newcomers",
            f"requests over {NEWCOMERS_BESIDE} connections while {NEWCOMERS} others connect at"
            " once, over and over",
            "request",
            newcomers,
            ("floor", "nginx"),
        ),
        Workload(
            "slow",
            f"requests over {BUSY_CONNECTIONS} connections beside {SLOW_READERS} slow readers",
            "request",
            slow,
        ),
        Workload(
            "files",
            "a 4 kB file, header and body apart, over 8 kept-alive connections (wrk)",
            "request",
            partial(files, connections=8),
        ),
        Workload(
            "httpd-xotcl",
            "a 4 kB file by XOTcl's httpd over 8 kept-alive connections (wrk)",
            "request",
            partial(httpd, server="xotcl", connections=8),
        ),
        Workload(
            "httpd-tcllib",
            "a 4 kB file by tcllib's httpd, 8 connections at once (wrk)",
            "request",
            partial(httpd, server="tcllib", connections=8),
        ),
        Workload(
            "latency",
            "one connection, which waits for each answer",
            "request",
            partial(latency, options=""),
        ),
        Workload(
            "latency-busypoll",
            "one connection, which waits for each answer, -busypoll 50",
            "request",
            partial(latency, options="-busypoll 50"),
        ),
    ]
    result += [
        Workload(
            f"sendcap-{cap}",
            f"a stream with -sendcap {cap} to a receiver with {{burst-detection {cap} 64}}",
            "MB",
            partial(sendcap, cap=cap),
        )
        for cap in (1, 2, 4, 8, 16, 32, 64)
    ]
    return result


WORKLOADS = _all()


def chosen(names: Sequence[str]) -> list[Workload]:
    """The workloads of these names or kinds, or all of them."""
    wanted: set[str] = set()
    for name in names:
        found = {w.name for w in WORKLOADS if w.name == name}
        found = found or {w.name for w in WORKLOADS if w.kind == name}
        if not found:
            raise BenchError(f'unknown workload "{name}": --list prints them')
        wanted |= found
    return [w for w in WORKLOADS if not names or w.name in wanted]


def need_wrk(workloads: Sequence[Workload]) -> None:
    """Raise `BenchError` if wrk is needed and not there."""
    if any(w.kind in _BY_WRK for w in workloads) and not shutil.which("wrk"):
        raise BenchError('wrk is not installed: "apt-get install wrk" does that')


_BY_WRK = {"keepalive", "short", "idle", "newcomers", "slow", "files", "httpd"}
