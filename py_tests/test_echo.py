"""Every byte comes back: an echo of random sizes with the driver in either role, or in both.

The driver runs in plain tclsh children, one for each end of it, which take one job a line. A
blocking end sends all before it reads, so its partner takes everything in before it answers; other
ends do both at once.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from conftest import tclsh_of
from hypothesis import strategies as st

import tclchan

SIZE_MAX = 10_000_000
TIMEOUT_S = 30.0

PROLOGUE = """
lappend auto_path $env(TCLCHAN_LIBDIR)
package require Iocpsock
set blocking [expr {[lindex $argv 0] eq "blocking"}]
proc adopt {chan mode bufferSize cap} {
    fconfigure $chan -translation binary -blocking $::blocking -buffersize $bufferSize \
        -recvmode $mode -sendcap $cap
}
"""

SERVER = """
proc accept {chan args} {
    adopt $chan {*}$::settings
    fileevent $chan readable [list [expr {$::blocking ? "echoAll" : "echoSome"}] $chan]
}
proc echoAll {chan} {
    puts -nonewline $chan [read $chan]
    close $chan
}
proc echoSome {chan} {
    puts -nonewline $chan [read $chan]
    flush $chan
    if {[eof $chan]} {
        close $chan
    }
}
set listener [socket2 -server accept -myaddr 127.0.0.1 0]
puts [lindex [fconfigure $listener -sockname] 2]
flush stdout
fileevent stdin readable {
    if {[gets stdin settings] < 0} {
        exit
    }
    puts ready
    flush stdout
}
vwait forever
"""

CLIENT = """
# A stream in which no two places a power of two apart look the same: the period is prime.
proc payload {size seed} {
    expr {srand($seed)}
    for {set i 0} {$i < 4099} {incr i} {
        lappend bytes [expr {int(rand() * 256)}]
    }
    set block [binary format cu* $bytes]
    return [string range [string repeat $block [expr {$size / 4099 + 1}]] 0 [expr {$size - 1}]]
}
proc collect {chan} {
    append ::got [read $chan]
    if {[eof $chan]} {
        set ::done 1
    }
}
proc echo {port size seed async mode bufferSize cap} {
    set data [payload $size $seed]
    set chan [socket2 {*}[expr {$async ? "-async" : ""}] 127.0.0.1 $port]
    adopt $chan $mode $bufferSize $cap
    set ::got ""
    if {$::blocking} {
        puts -nonewline $chan $data
        close $chan write
        set ::got [read $chan]
    } else {
        fileevent $chan readable [list collect $chan]
        puts -nonewline $chan $data
        close $chan write
        vwait ::done
    }
    close $chan
    return "[string length $::got] [expr {$::got eq $data ? "same" : "different"}]"
}
while {[gets stdin job] >= 0} {
    puts [echo {*}$job]
    flush stdout
}
"""


@dataclass(frozen=True)
class Case:
    """One echo."""

    size: int
    seed: int
    is_async: bool
    mode: str
    buffer_size: int
    send_cap: int

    @property
    def settings(self) -> str:
        return f"{{{self.mode}}} {self.buffer_size} {self.send_cap}"


SIZES = st.one_of(
    st.integers(1, 5000),
    st.builds(
        lambda power, off: max(1, (1 << power) + off), st.integers(0, 20), st.integers(-1, 1)
    ),
    st.integers(1, SIZE_MAX),
)

CASES = st.builds(
    Case,
    size=SIZES,
    seed=st.integers(1, 1000),
    is_async=st.booleans(),
    mode=st.sampled_from(
        ["zero-byte", "flow-controlled", "burst-detection 4 8", "burst-detection 1 1"]
    ),
    buffer_size=st.sampled_from([100, 1000, 4096, 65536, 1_000_000]),
    send_cap=st.sampled_from([1, 2, 20, 1000]),
)

SMALLEST = Case(1, 1, False, "zero-byte", 4096, 20)
LARGEST = Case(SIZE_MAX, 2, True, "zero-byte", 4096, 20)

SETTINGS = hypothesis.settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def every_case(check: Callable[[Case], None]) -> Callable[[], None]:
    """Have *check* called with the smallest case, the largest, and many between."""
    for case in (LARGEST, SMALLEST):
        check = hypothesis.example(case)(check)
    return SETTINGS(hypothesis.given(CASES)(check))


Child = subprocess.Popen[str]


@contextmanager
def child(tmp_path: Path, name: str, script: str, engine: str, blocking: bool) -> Iterator[Child]:
    """Run a Tcl script in a tclsh of its own until the block ends."""
    tclsh = tclsh_of("8.6")
    assert tclsh is not None, "no tclsh: install the package tcl"
    path = tmp_path / name
    path.write_text(PROLOGUE + script, encoding="utf-8")
    process = subprocess.Popen(
        [tclsh.path, str(path), "blocking" if blocking else "events"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "TCLCHAN_ENGINE": engine,
            "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
        },
    )
    watchdog = threading.Timer(100.0, process.kill)
    watchdog.start()
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()


def ask(process: Child, line: str) -> str:
    """Give a child a line; its answer."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return answer(process)


def answer(process: Child) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the child ended"
    return line.rstrip("\n")


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def echo_once(listener: socket.socket, store: bool) -> None:
    """Take one connection and send back what comes, at once or when all of it has come."""
    sock, _ = listener.accept()
    with sock:
        sock.settimeout(TIMEOUT_S)
        if store:
            sock.sendall(receive_all(sock))
        else:
            while data := sock.recv(1 << 16):
                sock.sendall(data)


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "events"])
def test_server(tmp_path: Path, engine: str, blocking: bool) -> None:
    """The driver is the server, the client is Python's."""
    with child(tmp_path, "server.tcl", SERVER, engine, blocking) as server:
        port = int(answer(server))

        @every_case
        def check(case: Case) -> None:
            assert ask(server, case.settings) == "ready"
            data = random.Random(case.seed).randbytes(case.size)
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:

                def send() -> None:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)

                sender = threading.Thread(target=send)
                sender.start()
                got = receive_all(sock)
                sender.join()
            assert len(got) == len(data)
            assert got == data

        check()


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "events"])
def test_client(tmp_path: Path, engine: str, blocking: bool) -> None:
    """The driver is the client, the server is Python's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        child(tmp_path, "client.tcl", CLIENT, engine, blocking) as client,
    ):
        listener.settimeout(TIMEOUT_S)
        port = listener.getsockname()[1]

        @every_case
        def check(case: Case) -> None:
            server = threading.Thread(target=echo_once, args=(listener, blocking))
            server.start()
            job = f"{port} {case.size} {case.seed} {int(case.is_async)} {case.settings}"
            assert ask(client, job) == f"{case.size} same"
            server.join()

        check()


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "events"])
def test_both(tmp_path: Path, engine: str, blocking: bool) -> None:
    """The driver is at both ends."""
    with (
        child(tmp_path, "server.tcl", SERVER, engine, blocking) as server,
        child(tmp_path, "client.tcl", CLIENT, engine, blocking) as client,
    ):
        port = int(answer(server))

        @every_case
        def check(case: Case) -> None:
            assert ask(server, case.settings) == "ready"
            job = f"{port} {case.size} {case.seed} {int(case.is_async)} {case.settings}"
            assert ask(client, job) == f"{case.size} same"

        check()
