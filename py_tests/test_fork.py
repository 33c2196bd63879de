"""A host that forks: its child has no part in what is under way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Run

NAME_SERVER = ROOT / "tcl_tests" / "dns.py"

# The server answers when it is told to; until then the lookups are under way.
SCRIPT = """
import os, subprocess, sys
import tclchan

server = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True)

def tell(line=""):
    if line:
        print(line, file=server.stdin, flush=True)
    assert server.stdout.readline() == "ok\\n"

tell()
with tclchan.Interp() as tcl:
    tcl.eval('''
        set slow [socket2 -async slow.test 9]
        fconfigure $slow -blocking 0
        socket2 -lookup slow.test -command {lappend got}
    ''')
    tell("asked slow.test")
    tell("deny none.test")
    child = os.fork()
    if child == 0:
        tcl.eval('''
            fconfigure $slow -blocking 1
            set result [list [fconfigure $slow -connecting] [catch {puts $slow x; flush $slow}] \\
                [catch {close $slow}]]
            socket2 -lookup none.test -command {lappend answer}
            vwait answer
            lappend result [lindex $answer 0]
        ''')
        print(tcl.eval("set result"), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    tell("answer slow.test 127.0.0.1")
    tcl.eval("vwait got")
    tcl.eval("while {[fconfigure $slow -connecting]} {after 2 {set tick 1}; vwait tick}")
    print(tcl.eval("set got"), tcl.eval("fconfigure $slow -error"))
"""

ALONE = """
mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@"
"""


def test_fork_during_a_lookup(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    unshare = ["unshare", "-m", "-n", "-r"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network of our own: {tried.stderr.strip()}")
    resolv, switch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\nsearch .\n")
    switch.write_text("hosts: dns\n")
    done = subprocess.run(
        [*unshare, "sh", "-c", ALONE, resolv, switch, sys.executable, "-c", SCRIPT, NAME_SERVER],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "1 1 0 error\nok 127.0.0.1 connection refused\n"


STALE = """
import os, socket, sys
import tclchan

listener = socket.create_server(("127.0.0.1", 0))
with tclchan.Interp() as tcl:
    tcl.eval(f"set chan [socket2 127.0.0.1 {listener.getsockname()[1]}]")
    sock = listener.accept()[0]
    tcl.eval("fconfigure $chan -translation binary; puts -nonewline $chan {the parent's, }")
    child = os.fork()
    if child == 0:
        tcl.eval(sys.argv[1])
        sys.exit()
    code = os.waitpid(child, 0)[1]
    tcl.eval("puts -nonewline $chan {and more}; close $chan")
    print(code, b"".join(iter(lambda: sock.recv(1000), b"")).decode())
"""


@pytest.mark.parametrize(
    ("script", "sent"),
    [
        ("", ""),
        ("close $chan", ""),
        ("flush $chan", ""),
        ("puts -nonewline $chan {the child's, }", "the child's, "),
    ],
)
def test_a_child_sends_nothing_of_the_parents(script: str, sent: str, run_python: Run) -> None:
    """A child has a copy of what is in Tcl's buffers; it leaves once, from the parent."""
    done = run_python("-c", STALE, script)
    assert (done.stdout, done.stderr) == (f"0 {sent}the parent's, and more\n", "")


ENDED_CHILD = """
import os, sys
import tclchan

with tclchan.Interp() as tcl:
    os.mkfifo("go")
    child = os.fork()
    if child == 0:
        open("go").close()
    else:
        tcl.eval(f"set child {child}")
        tcl.eval('''
            close [open go w]
            set state ""
            while {$state ne "Z"} {
                set file [open /proc/$child/stat]
                set state [lindex [read $file] 2]
                close $file
            }
            # Longer than it takes until a script that does not react is unwound.
            set end [expr {[clock milliseconds] + 300}]
            while {[clock milliseconds] < $end} {}
        ''')
        print(os.waitpid(child, 0)[1])
"""


def test_an_ended_child_ends_nothing_here(run_python: Run) -> None:
    """What wakes an interpreter of the child is not what wakes the parent's."""
    done = run_python(ENDED_CHILD)
    assert (done.stdout, done.stderr) == ("0\n", "")
