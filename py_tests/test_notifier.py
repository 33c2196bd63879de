"""Host mode from Python: who gets it, and what Tcl's file handlers do in it."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Run

import tclchan

WHICH = """
import tclchan
with tclchan.Interp({0}) as interp:
    print(interp.eval("iocp::notifier"))
"""


def which(run_python: Run, before: str = "", words: str = "", notifier: str = "") -> str:
    """The notifier of an `Interp` that is made in a process of its own."""
    environment = {**os.environ, "TCLCHAN_NOTIFIER": notifier}
    done = run_python(before + WHICH.format(words), env=environment)
    assert done.stderr == ""
    return str(done.stdout).strip()


def test_an_interpreter_is_hosted(run_python: Run) -> None:
    assert which(run_python) == "ring"


def test_it_can_stay_with_tcl(run_python: Run) -> None:
    assert which(run_python, words='notifier="tcl"') == "tcl"
    assert which(run_python, notifier="tcl") == "tcl"
    assert which(run_python, words='notifier="ring"', notifier="tcl") == "ring"


def test_it_stays_with_tcl_where_others_use_it(run_python: Run) -> None:
    root = "import tkinter\ntkinter._default_root = 1\n"
    assert which(run_python, before=root) == "tcl"
    other = f"import threading\ncode = '''{WHICH.format('')}'''\n"
    done = run_python(
        f"{other}thread = threading.Thread(target=exec, args=(code,))\nthread.start()",
        env={**os.environ, "TCLCHAN_NOTIFIER": ""},
    )
    assert done.stdout == "tcl\n"


def test_asking_too_late(run_python: Run) -> None:
    done = run_python(
        "import threading, tclchan\n"
        "with tclchan.Interp(notifier='tcl') as first:\n"
        "    def other():\n"
        "        try:\n"
        "            tclchan.Interp(notifier='ring')\n"
        "        except tclchan.AttachError as error:\n"
        "            print(error)\n"
        "    thread = threading.Thread(target=other)\n"
        "    thread.start()\n"
        "    thread.join()\n",
        env={**os.environ, "TCLCHAN_NOTIFIER": ""},
    )
    assert done.stdout.startswith("cannot change the notifier: other threads run already; ")
    assert done.stderr == ""


def test_unknown() -> None:
    with pytest.raises(ValueError, match='unknown notifier "epoll": must be auto, ring, tcl'):
        tclchan.Interp(notifier="epoll")


def test_unknown_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLCHAN_NOTIFIER", "epoll")
    with pytest.raises(ValueError, match='unknown notifier "epoll": must be auto, ring, tcl'):
        tclchan.Interp()
    tclchan.Interp(notifier="tcl").close()


def test_the_command_line(cli: Run, tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "which.tcl")
    with open(script, "w", encoding="ascii") as file:
        file.write("puts [iocp::notifier]")
    environment = {**os.environ, "TCLCHAN_NOTIFIER": ""}
    assert cli("run", script, env=environment).stdout == "ring\n"
    assert cli("run", "--notifier", "tcl", script, env=environment).stdout == "tcl\n"


def test_a_descriptor_that_is_closed_before_its_handler_goes(interp: tclchan.Interp) -> None:
    """A copy of it lives on, so epoll reports it for ever: that must neither spin nor mislead."""
    if interp.eval("iocp::notifier") != "ring":
        pytest.skip("the interpreter is in guest mode (TCLCHAN_NOTIFIER)")
    calls: list[str] = []
    reader, writer = os.pipe()
    source, other = os.pipe()
    copy = os.dup(reader)
    try:
        interp.tk.createfilehandler(reader, 2, lambda fd, mask: calls.append("old"))
        os.write(writer, b"x")
        os.close(reader)
        os.dup2(source, reader)  # The number is used again.
        interp.tk.deletefilehandler(reader)
        interp.tk.createfilehandler(reader, 2, lambda fd, mask: calls.append("new"))
        before = time.process_time()
        interp.eval("after 200 {set done 1}; vwait done")
        assert time.process_time() - before < 0.15
        assert calls == []
        os.write(other, b"y")
        interp.command("heard", lambda: len(calls) > 0)
        interp.eval("while {![heard]} {after 1 {set done 1}; vwait done}")
        assert set(calls) == {"new"}
        interp.tk.deletefilehandler(reader)
    finally:
        for fd in (reader, writer, source, other, copy):
            os.close(fd)


def switches(pid: int) -> int:
    """How often the threads of a process have been put to sleep or aside."""
    status = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(map(int, re.findall(r"_switches:\s+(\d+)", status)))


IDLE = """
set listener [socket2 -server {apply {{chan args} {
    puts served
    flush stdout
    fileevent $chan readable [list gets $chan]
}}} -myaddr 127.0.0.1 0]
after 3600000 {puts "an hour is over"}
puts [lindex [fconfigure $listener -sockname] 2]
flush stdout
vwait forever
"""


def test_an_idle_process_makes_no_system_call(engine: str, tmp_path: Path) -> None:
    """One that sleeps and is never put to sleep again makes none."""
    script = tmp_path / "idle.tcl"
    script.write_text(IDLE)
    words = ["run", "--engine", engine, "--notifier", "ring", str(script)]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tclchan", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port)):
                assert process.stdout.readline() == "served\n"
                # Once it has settled, which takes it no second, nothing happens for as long.
                deadline = time.monotonic() + 10
                while True:
                    before = switches(process.pid)
                    time.sleep(1)
                    if switches(process.pid) == before > 0:
                        break
                    assert time.monotonic() < deadline, "it does not come to rest"
                with socket.create_connection(("127.0.0.1", port)):
                    assert process.stdout.readline() == "served\n"
        finally:
            process.kill()


def test_threads_give_back_their_descriptors(engine: str) -> None:
    def work() -> None:
        with tclchan.Interp(engine=engine) as interp:
            interp.eval("after 1 {set done 1}; vwait done")

    tclchan.Interp(engine=engine).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forked_child_has_an_event_loop(interp: tclchan.Interp) -> None:
    reader, writer = os.pipe()
    interp.eval("lassign [chan pipe] in out; fileevent $in readable {set line [gets $in]}")
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            line = interp.eval("puts $out hello; flush $out; vwait line; set line")
            os.write(writer, line.encode())
            interp.eval("after 5 {set done 1}; vwait done")
            os.write(writer, b" and timers")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 100) == b"hello and timers"
    os.close(reader)
    # The parent's is as it was: it has the line that the child has written and read, or not.
    interp.eval("puts $out parent; flush $out; vwait line; close $in; close $out")
    assert interp.eval("set line") == "parent"


@pytest.mark.parametrize("copied", [False, True])
def test_a_number_that_is_another_file_now(interp: tclchan.Interp, copied: bool) -> None:
    """Its handler was never deleted: the one that takes its place is heard, and no other."""
    if interp.eval("iocp::notifier") != "ring":
        pytest.skip("the interpreter is in guest mode (TCLCHAN_NOTIFIER)")
    calls: list[str] = []
    reader, writer = os.pipe()
    source, other = os.pipe()
    fds = [reader, writer, source, other]
    interp.tk.createfilehandler(reader, 2, lambda fd, mask: calls.append("old"))
    if copied:
        fds.append(os.dup(reader))
    try:
        os.dup2(source, reader)
        if copied:
            os.write(writer, b"x")
        interp.tk.createfilehandler(reader, 2, lambda fd, mask: calls.append("new"))
        interp.eval("after 100 {set done 1}; vwait done")
        assert calls == []
        os.write(other, b"y")
        interp.command("heard", lambda: len(calls) > 0)
        interp.eval("set end [expr {[clock milliseconds] + 10000}]")
        interp.eval(
            "while {![heard] && [clock milliseconds] < $end} {after 1 {set done 1}; vwait done}"
        )
        assert set(calls) == {"new"}
        interp.tk.deletefilehandler(reader)
    finally:
        for fd in fds:
            os.close(fd)


SETUP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)


def test_an_alert_amid_a_new_set_of_descriptors(interp: tclchan.Interp) -> None:
    """It may come right before the loop waits, when the set that has heard it is thrown away."""
    if interp.eval("iocp::notifier") != "ring":
        pytest.skip("the interpreter is in guest mode (TCLCHAN_NOTIFIER)")
    libtcl = ctypes.CDLL(f"libtcl{interp.eval('info tclversion')}.so")
    libtcl.Tcl_GetCurrentThread.restype = ctypes.c_void_p
    libtcl.Tcl_ThreadAlert.argtypes = [ctypes.c_void_p]
    thread = libtcl.Tcl_GetCurrentThread()
    passes = 0

    def setup(data: int, flags: int) -> None:
        nonlocal passes
        passes += 1
        libtcl.Tcl_ThreadAlert(thread)

    procs = SETUP(setup), SETUP(lambda data, flags: None)
    reader, writer = os.pipe()
    copy = os.dup(reader)
    try:
        interp.tk.createfilehandler(reader, 2, lambda fd, mask: None)
        os.write(writer, b"x")
        os.close(reader)
        interp.tk.deletefilehandler(reader)
        libtcl.Tcl_CreateEventSource(*procs, None)
        interp.eval("after 1000 {set done 1}; vwait done")
        libtcl.Tcl_DeleteEventSource(*procs, None)
    finally:
        os.close(writer)
        os.close(copy)
    assert passes > 100


OBEDIENT = """
import ctypes as c, select, socket, sys, time
import tclchan, tkinter

libtcl = c.CDLL(f"libtcl{tkinter.TclVersion}.so")
libtcl.Tcl_Alloc.restype = c.c_void_p

class Time(c.Structure):
    _fields_ = [("sec", c.c_long), ("usec", c.c_long)]

class Event(c.Structure):
    _fields_ = [("proc", c.c_void_p), ("next", c.c_void_p)]

FileProc = c.CFUNCTYPE(None, c.c_void_p, c.c_int)
handlers, ready, due = {}, {}, None

@c.CFUNCTYPE(None, c.POINTER(Time))
def set_timer(after):
    global due
    due = time.monotonic() + after[0].sec + after[0].usec / 1e6 if after else None

@c.CFUNCTYPE(None, c.c_int, c.c_int, c.c_void_p, c.c_void_p)
def create_file_handler(fd, mask, proc, data):
    handlers[fd] = mask, FileProc(proc), data

@c.CFUNCTYPE(None, c.c_int)
def delete_file_handler(fd):
    handlers.pop(fd, None)

@c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int)
def serve_files(event, flags):
    if not flags & 8:
        return 0
    while ready:
        fd, mask = ready.popitem()
        if fd in handlers:
            handlers[fd][1](handlers[fd][2], mask)
    return 1

wait_for_event = c.CFUNCTYPE(c.c_int, c.c_void_p)(lambda data: -1)
init = c.CFUNCTYPE(c.c_void_p)(lambda: None)
nothing = c.CFUNCTYPE(None, c.c_void_p)(lambda data: None)
service_mode = c.CFUNCTYPE(None, c.c_int)(lambda mode: None)
notifier = (set_timer, wait_for_event, create_file_handler, delete_file_handler, init, nothing,
            nothing, service_mode)
libtcl.Tcl_SetNotifier((c.c_void_p * 8)(*(c.cast(proc, c.c_void_p).value for proc in notifier)))

def wait(patience):
    global due
    timed = due is not None
    if timed:
        patience = max(0, min(patience, due - time.monotonic()))
    fds = [[fd for fd in handlers if handlers[fd][0] & bit] for bit in (2, 4, 8)]
    found = select.select(*fds, patience)
    if not timed and not any(found):
        return False
    for bit, fds in zip((2, 4, 8), found):
        for fd in fds:
            ready[fd] = ready.get(fd, 0) | bit
    if ready:
        event = libtcl.Tcl_Alloc(c.sizeof(Event))
        Event.from_address(event).proc = c.cast(serve_files, c.c_void_p).value
        libtcl.Tcl_QueueEvent(c.c_void_p(event), 0)
    due = None
    libtcl.Tcl_ServiceAll()
    return True

def until(condition):
    while not condition():
        if not wait(10):
            sys.exit("the loop is not woken")

with tclchan.Interp(engine=sys.argv[1], notifier="tcl") as tcl:
    # Before each step nothing is left to be done: what there is comes of the step's own script.
    def step(*script):
        while wait(0.05):
            pass
        return [tcl.eval(line) for line in script][-1]

    def heard(text):
        until(lambda: text in tcl.eval("set heard"))

    libtcl.Tcl_SetServiceMode(1)
    listen = "lindex [fconfigure [socket2 -server {apply {{chan args} {set ::chan $chan}}} " \\
        "-myaddr 127.0.0.1 0] -sockname] 2"
    port = int(step("set heard {}; set chan {}", listen))
    client = socket.create_connection(("127.0.0.1", port))
    until(lambda: tcl.eval("set chan"))

    step("fconfigure $chan -blocking 0 -translation binary",
         "fileevent $chan readable {append heard [read $chan]}")
    client.sendall(b"read")
    heard("read")

    step("fileevent $chan readable {}",
         "puts -nonewline $chan [string repeat x 20000000]; flush $chan")
    count = 0
    def all_here():
        global count
        while count < 20000000 and select.select([client], [], [], 0.01)[0]:
            count += len(client.recv(1 << 20))
        return count == 20000000
    until(all_here)

    step(f"set async [socket2 -async 127.0.0.1 {port}]",
         "fileevent $async writable {append heard connected; close $async}")
    heard("connected")

    step("fileevent $chan readable {read $chan; append heard [eof $chan]}",
         "fconfigure $chan -idletimeout 100")
    heard("1")
    libtcl.Tcl_SetServiceMode(0)
    print("served")
"""


def test_a_loop_that_waits_as_long_as_tcl_says(engine: str, run_python: Run) -> None:
    """What a script leaves to be done is done, whoever has evaluated it."""
    if engine == "sim":
        pytest.skip("sim holds results back without a word")
    done = run_python("-c", OBEDIENT, engine)
    assert (done.stdout, done.stderr) == ("served\n", "")


FOREIGN = """
import ctypes, os, select, socket, sys, time
import tclchan

def engine_fds():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "[event" in os.readlink(f"/proc/self/fd/{name}"):
                yield int(name)
        except OSError:
            pass

def wait():
    ready = select.select(fds, [], [], 10)[0]
    if not ready:
        sys.exit("the loop is not woken")
    for fd in ready:
        if "eventfd" in os.readlink(f"/proc/self/fd/{fd}"):
            os.read(fd, 8)  # It stays readable otherwise.

with tclchan.Interp(engine=sys.argv[1], notifier="tcl") as tcl:
    tcl.eval("set accepted {}")
    tcl.eval("set listener [socket2 -server {lappend accepted} -myaddr 127.0.0.1 0]")
    port = int(tcl.eval("lindex [fconfigure $listener -sockname] 2"))
    libtcl = ctypes.CDLL(f"libtcl{tcl.eval('info tclversion')}.so")
    libtcl.Tcl_SetServiceMode(1)
    fds = list(engine_fds())
    clients = []
    for count in range(1, 6):
        while libtcl.Tcl_ServiceAll():
            pass
        clients.append(socket.create_connection(("127.0.0.1", port)))
        while int(tcl.eval("llength $accepted")) < 3 * count:
            wait()
            libtcl.Tcl_ServiceAll()
    chans = tcl.eval("set accepted").split()[::3]
    for chan in chans:
        tcl.eval(f"fconfigure {chan} -blocking 0")
    # One closes another, whose event is the last of the turn.
    first, second = chans[:2]
    for chan, other in (first, second), (second, first):
        tcl.eval(f"fileevent {chan} readable {{read {chan}; close {other}; set closed 1}}")
    tcl.eval("set got 0; proc take chan {incr ::got [string length [read $chan]]}")
    for chan in chans[2:]:
        tcl.eval(f"fileevent {chan} readable {{take {chan}}}")
    while libtcl.Tcl_ServiceAll():
        pass
    for client in clients[:2]:
        client.sendall(b"x")
    time.sleep(0.1)  # Both are to be there.
    while tcl.eval("info exists closed") == "0":
        wait()
        libtcl.Tcl_ServiceAll()
    # Several channels with something to tell at once.
    for count in range(1, 11):
        for client in clients[2:]:
            client.sendall(b"x")
        while int(tcl.eval("set got")) < 3 * count:
            wait()
            libtcl.Tcl_ServiceAll()
    libtcl.Tcl_SetServiceMode(0)
    print(len(clients))
"""


def test_a_loop_that_is_not_tcls(engine: str, run_python: Run) -> None:
    """It waits on the descriptors that Tcl's notifier was given, and calls Tcl_ServiceAll."""
    if engine == "sim":
        pytest.skip("sim holds results back without a word")
    done = run_python("-c", FOREIGN, engine)
    assert (done.stdout, done.stderr) == ("5\n", "")
