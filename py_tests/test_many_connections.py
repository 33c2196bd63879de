"""2,000 connections at once, and the server still opens files, pipes and sockets.

Tcl's own notifier aborts the process when it has to watch a descriptor over 1,023, which is what
the core's sockets run into. The driver's sockets must leave the low numbers to everybody else.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
from conftest import Tclsh
from talker import Talker

import tclchan

COUNT = 2000
LIMIT = 2 * COUNT + 1000

SERVER = r"""
lappend auto_path $env(TCLCHAN_LIBDIR)
package require Iocpsock
set open 0
proc accept {chan args} {
    incr ::open
    fconfigure $chan -blocking 0 -translation lf -buffering line
    fileevent $chan readable [list echo $chan]
}
proc echo {chan} {
    if {[gets $chan line] >= 0} {
        puts $chan "echo $line"
    } elseif {[eof $chan]} {
        close $chan
        incr ::open -1
    }
}
proc fds {} {
    return [llength [glob -directory /proc/self/fd *]]
}
# fileHandler --
#	A pipe with a file event, through Tcl's own notifier: the call that aborts over 1,023.
proc fileHandler {} {
    set pipe [open {|echo piped} r]
    fileevent $pipe readable [list apply {{pipe} {
        gets $pipe ::piped
        close $pipe
    }} $pipe]
    vwait ::piped
    return $::piped
}
proc work {} {
    for {set i 0} {$i < 20} {incr i} {
        lappend files [open [info script]]
    }
    set result [expr {[string length [read [lindex $files end]]] > 100 ? "read" : "not read"}]
    foreach file $files {
        close $file
    }
    lappend result [exec echo executed] [fileHandler]
    set listener [socket2 -server x -myaddr 127.0.0.1 0]
    close $listener
    lappend result opened
}
# idle SECONDS --
#	A window in which nothing happens: the processor's milliseconds, the system calls and the
#	events in it. No timer ends it: before each, Tcl 9 asks around for up to a millisecond.
proc idle {seconds} {
    set pipe [open [list |sleep $seconds]]
    fileevent $pipe readable [list apply {{pipe} {
        close $pipe
        set ::over 1
    }} $pipe]
    set before [iocp::stats]
    set cpu [cpuMs]
    vwait ::over
    set after [iocp::stats]
    return [list [expr {[cpuMs] - $cpu}] {*}[lmap name {enters waits eventsQueued} {
        expr {[dict get $after $name] - [dict get $before $name]}
    }]]
}
proc cpuMs {} {
    set file [open /proc/self/stat]
    set fields [split [lindex [split [read $file] )] end]]
    close $file
    return [expr {([lindex $fields 12] + [lindex $fields 13]) * 10}]
}
proc waitUntil {condition} {
    while {![uplevel #0 [list expr $condition]]} {
        after 5 {set ::tick 1}
        vwait ::tick
    }
}
set listener [socket2 -server accept -myaddr 127.0.0.1 0]
work
set fds [fds]
source $env(TALKER)
talk [lindex [fconfigure $listener -sockname] 2]
"""

CLIENTS = r"""
import resource, socket, sys
count, limit, port = (int(word) for word in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
socks = []
for _ in range(count):
    socks.append(socket.create_connection(("127.0.0.1", port), 30))
print("connected", flush=True)
for line in sys.stdin:
    if line == "echo\n":
        some = socks[:: max(1, count // 200)]
        for number, sock in enumerate(some):
            sock.sendall(b"number %d\n" % number)
        good = 0
        for number, sock in enumerate(some):
            good += sock.makefile("rb").readline() == b"echo number %d\n" % number
        print("echoed" if good == len(some) else good, flush=True)
    elif line == "close\n":
        for sock in socks:
            sock.close()
        print("closed", flush=True)
"""


def test_many_connections(tmp_path: Path, engine: str, tclsh: Tclsh) -> None:
    """2,000 connections, some of them echoing, while files, pipes and programs work."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < LIMIT:
        pytest.skip(f"the hard limit of descriptors is {hard}, and {LIMIT} are needed")
    script = tmp_path / "server.tcl"
    script.write_text(SERVER, encoding="utf-8")
    environment = {
        "TCLCHAN_ENGINE": engine,
        "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
        "TALKER": str(Path(__file__).with_name("talker.tcl")),
    }
    raise_limit = f'ulimit -n {LIMIT} && exec "$0" "$@"'
    server = Talker(["sh", "-c", raise_limit, tclsh.path, str(script)], environment)
    clients = None
    try:
        port = server.answer()
        clients = Talker([sys.executable, "-c", CLIENTS, str(COUNT), str(LIMIT), port], {})
        assert clients.answer() == "connected"
        assert server.ask(f"waitUntil {{$open == {COUNT}}}; set open") == str(COUNT)
        assert server.ask("work") == "read executed piped opened"
        assert clients.ask("echo") == "echoed"
        assert server.ask("work") == "read executed piped opened"
        assert int(server.ask("fds")) >= COUNT
        server.ask("idle 0.1")  # What the last echoes have left to do.
        cpu, enters, waits, events = (int(word) for word in server.ask("idle 0.5").split())
        # Some are made as it begins and as it ends.
        assert (enters <= 4, waits <= 4, events) == (True, True, 0), (enters, waits)
        assert cpu <= 50
        assert clients.ask("close") == "closed"
        assert server.ask("waitUntil {$open == 0 && [fds] == $fds}; set open") == "0"
        assert server.ask("work") == "read executed piped opened"
    finally:
        codes = [talker.end() for talker in (server, clients) if talker is not None]
    assert codes == [0, 0]
