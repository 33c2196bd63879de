"""Signals reach Python although Tcl waits or computes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import AT_ONCE_S, WINDOWS, send_signal

import tclchan

WAYS = {
    "waiting": "vwait forever",
    "waiting in a catch": "while 1 {catch {vwait forever}}",
    "waiting in a handler": "after 0 {catch {vwait a}; error no}; vwait b",
    "busy in the event loop": "proc again {} {after 0 again}; again; vwait forever",
    "busy with update": "while 1 {catch update}",
    "computing": "while 1 {}",
    "computing in a catch": "while 1 {catch {while 1 {}}}",
    "delayed": "after 20000",  # Longer than any test may take here.
}


# One that a program gives a meaning to.
OTHER = signal.Signals["SIGBREAK" if WINDOWS else "SIGUSR1"]


@pytest.fixture(autouse=True)
def everything_is_restored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


@contextmanager
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE_S


def send_soon(number: int) -> threading.Timer:
    timer = threading.Timer(0.02, send_signal, (number,))
    timer.start()
    return timer


@pytest.mark.parametrize("script", WAYS.values(), ids=WAYS.keys())
def test_sigint_in_eval_is_a_keyboard_interrupt(interp: tclchan.Interp, script: str) -> None:
    interp.command("started", lambda: send_soon(signal.SIGINT) and None)
    with at_once(), pytest.raises(KeyboardInterrupt):
        interp.eval(f"started; {script}")
    assert interp.eval("set usable 1") == "1"


@pytest.mark.parametrize("script", ["read $in 1", "fcopy $in $out", "iocp::copy $in $out"])
@pytest.mark.parametrize(
    "out", ["open $path wb", "socket2 127.0.0.1 $port"], ids=["file", "socket"]
)
def test_sigint_ends_what_waits_for_a_connection(
    interp: tclchan.Interp, script: str, out: str, tmp_path: Path
) -> None:
    interp.command("started", lambda: send_soon(signal.SIGINT) and None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        interp.call("set", "port", listener.getsockname()[1])
        interp.call("set", "path", tmp_path / "file")
        interp.eval(f"set in [socket2 127.0.0.1 $port]; set out [{out}]")
        interp.eval("fconfigure $in -translation binary; fconfigure $out -translation binary")
        with at_once(), pytest.raises(KeyboardInterrupt):
            interp.eval(f"started; {script}")
        far = listener.accept()[0]
        with far:
            far.sendall(b"later")
            assert interp.eval("read $in 5") == "later"


def test_nothing_interrupts_but_signals(interp: tclchan.Interp) -> None:
    """The kernel ends rings late, and interrupts the thread for it: `iocp::engines` tries one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        interp.call("set", "port", listener.getsockname()[1])
        interp.eval("set in [socket2 127.0.0.1 $port]")
        far = listener.accept()[0]
        with far:
            timer = threading.Timer(0.2, far.sendall, (b"x",))
            interp.command("started", timer.start)
            assert interp.eval("iocp::engines; started; read $in 1") == "x"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", WAYS.values(), ids=WAYS.keys())
def test_run_returns(interp: tclchan.Interp, script: str, number: int) -> None:
    interp.command("started", lambda: send_soon(number) and None)
    interp.call("after", "0", f"started; {script}")
    with at_once():
        assert interp.run() == 0
    assert interp.stopped_by == number
    interp.eval("foreach id [after info] {after cancel $id}; after 0 {exit 3}")
    assert interp.run() == 3
    assert interp.stopped_by is None


def test_a_second_signal_gets_through_a_busy_command(interp: tclchan.Interp) -> None:
    def work() -> None:
        send_signal(signal.SIGINT)
        assert interp.stopped_by == signal.SIGINT
        send_soon(signal.SIGINT)
        while True:
            time.sleep(0.05)

    interp.command("work", work)
    interp.eval("after 0 {catch work}")
    assert interp.run() == 0


def test_a_signal_that_was_dealt_with_ends_nothing_later(interp: tclchan.Interp) -> None:
    def deal() -> None:
        with pytest.raises(KeyboardInterrupt):
            send_signal(signal.SIGINT)

    interp.command("deal", deal)
    interp.eval("deal")
    assert interp.eval("after 300; string cat done") == "done"


def test_the_handlers_of_the_program_stay(interp: tclchan.Interp) -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: interp.stop(5))
    try:
        send_soon(signal.SIGTERM)
        assert interp.run() == 5
        assert interp.stopped_by is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_signals_are_handled_and_tcl_goes_on(interp: tclchan.Interp) -> None:
    before = signal.signal(OTHER, lambda *_: interp.call("set", "done", "yes"))
    try:
        send_soon(OTHER)
        assert interp.eval("vwait done; set done") == "yes"
    finally:
        signal.signal(OTHER, before)


def test_a_handler_that_raises_ends_the_evaluation(interp: tclchan.Interp) -> None:
    def raise_it(*_: object) -> None:
        raise LookupError("from the handler")

    before = signal.signal(OTHER, raise_it)
    try:
        send_soon(OTHER)
        with pytest.raises(LookupError, match="from the handler"):
            interp.eval("while 1 {catch {vwait forever}}")
    finally:
        signal.signal(OTHER, before)


def test_a_wakeup_fd_of_the_program_is_put_back(interp: tclchan.Interp) -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        try:
            interp.eval("set x 1")
        finally:
            assert signal.set_wakeup_fd(-1) == writer.fileno()


@pytest.mark.posix("there, only a console sends signals to processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", WAYS.values(), ids=WAYS.keys())
def test_the_command_line_ends(script: str, number: int, tmp_path: Path) -> None:
    file = tmp_path / "script.tcl"
    file.write_text(f"puts ready; flush stdout; {script}")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tclchan", "run", str(file)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with at_once():
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (128 + number, "", "")


@pytest.mark.posix("there, only a console sends signals to processes")
@pytest.mark.parametrize(
    ("cap", "ending"),
    [
        (1000, "close $chan"),
        (10, "close $chan"),
        (1000, "fconfigure $chan -blocking 1 -sendcap 1; puts -nonewline $chan x"),
    ],
    ids=["in the driver", "in Tcl", "blocking"],
)
def test_a_reader_that_stalls_delays_no_end(
    engine: str, tmp_path: Path, cap: int, ending: str
) -> None:
    file = tmp_path / "script.tcl"
    file.write_text(f"""
        proc accept {{chan host port}} {{
            fconfigure $chan -translation binary -blocking 0 -buffersize 65536 -sendcap {cap}
            puts -nonewline $chan [string repeat x 30000000]
            {ending}
            puts closed
            flush stdout
        }}
        set listener [socket2 -server accept -myaddr 127.0.0.1 0]
        puts [lindex [fconfigure $listener -sockname] 2]
        flush stdout
        vwait forever
    """)
    with (
        subprocess.Popen(
            [sys.executable, "-P", "-m", "tclchan", "run", "--engine", engine, str(file)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        socket.socket() as reader,
    ):
        assert process.stdout is not None
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", int(process.stdout.readline())))
        assert process.stdout.readline() == "closed\n"
        with at_once():
            process.terminate()
            assert process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_drain_instead_of_a_stop(interp: tclchan.Interp, number: int) -> None:
    drained = []

    def drain() -> None:
        drained.append(number)
        interp.call("after", "50", "exit 3")

    interp.command("started", lambda: send_soon(number) and None)
    interp.call("after", "0", "started")
    assert interp.run(drain=drain) == 3
    assert drained == [number]
    assert interp.stopped_by is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_is_a_stop(interp: tclchan.Interp, number: int) -> None:
    interp.command("started", lambda: send_soon(number) and None)
    interp.call("after", "0", "started")
    with at_once():
        assert interp.run(drain=lambda: send_soon(number), patience=60) == 0
    assert interp.stopped_by == number


def test_patience_with_what_computes(interp: tclchan.Interp) -> None:
    interp.command("started", lambda: send_soon(signal.SIGTERM) and None)
    interp.call("after", "0", "started; while 1 {}")
    began = time.monotonic()
    with at_once():
        assert interp.run(drain=interp.stop, patience=0.4) == 0
    assert time.monotonic() - began > 0.4


@pytest.mark.posix("there, a signal is an event of the console")
@pytest.mark.parametrize("notifier", ["tcl", "ring"])
def test_only_the_main_thread_takes_signals(notifier: str) -> None:
    code = """
import pathlib, signal, sys, tclchan
interp = tclchan.Interp(notifier=sys.argv[1])
interp.eval("after 1 {set done 1}; vwait done")
for thread in pathlib.Path("/proc/self/task").iterdir():
    blocked = (thread / "status").read_text().split("SigBlk:")[1].split()[0]
    if not int(blocked, 16) >> (signal.SIGTERM - 1) & 1:
        print(int(thread.name) - int(pathlib.Path("/proc/self").resolve().name))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, notifier], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
