"""A host that forks: its child has no part in what is under way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
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


def printed(command: Sequence[str], cwd: Path, seconds: float = 60) -> str:
    """Return what a program prints that has nothing to complain of."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=seconds, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_fork_during_a_lookup(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    unshare = ["unshare", "-m", "-n", "-r"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network of our own: {tried.stderr.strip()}")
    resolv, switch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\nsearch .\n")
    switch.write_text("hosts: dns\n")
    alone = [*unshare, "sh", "-c", ALONE, str(resolv), str(switch)]
    command = [*alone, sys.executable, "-c", SCRIPT, str(NAME_SERVER)]
    assert printed(command, tmp_path) == "1 1 0 error\nok 127.0.0.1 connection refused\n"


# It sends and receives at the same time, both a little at a time.
PEER = """
import select, socket, sys, zlib
size = int(sys.argv[1])
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
sock = listener.accept()[0]
sock.setblocking(False)
data = bytes(range(256)) * (size // 256)
sent = count = crc = ended = 0
while not ended or sent < size:
    # It lags behind with receiving, so that the other side has always something to send.
    takes = not ended and (sent == size or count < sent - 1_000_000)
    ends = [sock] if takes else [], [sock] if sent < size else [], []
    reads, writes, _ = select.select(*ends, 120)
    if not reads and not writes:
        sys.exit("nothing to do for 2 minutes")
    if writes:
        sent += sock.send(data[sent : sent + 5000])
        if sent == size:
            sock.shutdown(socket.SHUT_WR)
    if reads:
        piece = sock.recv(5000)
        count += len(piece)
        crc = zlib.crc32(piece, crc)
        ended = not piece
print(count, crc, zlib.crc32(data), flush=True)
"""

AMID_TRAFFIC = """
import os, signal, subprocess, sys
import tclchan

engine, notifier, peer_script = sys.argv[1:]
SIZE, FORKS = 20_480_000, 50
peer = subprocess.Popen([sys.executable, "-c", peer_script, str(SIZE)], stdout=subprocess.PIPE,
                        text=True)
port = int(peer.stdout.readline())

def play_child(tcl, kind):
    signal.alarm(200)
    tcl.eval("fileevent $chan readable {}; catch {fileevent $chan writable {}}")
    if kind != 3:
        tcl.eval('''
            catch {read $chan}
            catch {read $side}
            puts $side "a child's"
            flush $side
        ''')
    if kind == 1:
        tcl.eval('''
            set listener [socket2 -server {lappend ::came} -myaddr 127.0.0.1 0]
            set own [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
            puts $own hello
            flush $own
            vwait came
            if {[gets [lindex $came 0]] ne "hello"} {
                error "the child has no sockets of its own"
            }
        ''')
    if kind == 2:
        tcl.eval("close $chan; close $side")

with tclchan.Interp(engine=engine, notifier=notifier) as tcl:
    tcl.eval(f"set port {port}; set size {SIZE}; set forks {FORKS}")
    tcl.eval('''
        # What children write goes to a connection of ours, beside the one with the traffic.
        set listener [socket2 -server {lappend ::taken} -myaddr 127.0.0.1 0]
        set side [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
        vwait taken
        close $listener
        lassign $taken far
        fconfigure $side -blocking 0
        set chan [socket2 127.0.0.1 $port]
        # The kernel would let the peer run ahead by megabytes, and then it has no lag to keep.
        fconfigure $chan -blocking 0 -translation binary -sendcap 1000
        fconfigure $chan -sosndbuf 65536 -sorcvbuf 65536
        set block [string repeat 0123456789abcdef 6250]
        lassign {0 0 0 0 0 0} sent written count crc ended shut
        # Some megabytes of it are with the driver at all times.
        proc send {} {
            if {$::sent == $::size} {
                fileevent $::chan writable {}
                close $::chan write
                set ::shut 1
            } elseif {$::sent > $::count + 3000000} {
                fileevent $::chan writable {}
            } else {
                set piece [string range $::block 0 [expr {min(99999, $::size - $::sent) - 1}]]
                puts -nonewline $::chan $piece
                incr ::sent [string length $piece]
                set ::written [zlib crc32 $piece $::written]
            }
        }
        proc receive {} {
            set piece [read $::chan 5000]
            incr ::count [string length $piece]
            set ::crc [zlib crc32 $piece $::crc]
            set ::ended [eof $::chan]
            if {$::ended} {
                fileevent $::chan readable {}
            }
            if {!$::shut} {
                fileevent $::chan writable send
            }
        }
        fileevent $chan writable send
        fileevent $chan readable receive
        set busy 0
        proc unsent {} {
            return [lindex [fconfigure $::chan -sendcap] 1]
        }
        # To the next part, and until something is under way, unless that was all.
        proc moveOn {part} {
            while {$::count < $part * ($::size / $::forks)
                    || !$::shut && !$::ended && [unsent] == 0} {
                vwait ::count
            }
            incr ::busy [expr {[unsent] > 0}]
        }
    ''')
    children = []
    for number in range(FORKS):
        tcl.eval(f"moveOn {number}")
        child = os.fork()
        if child == 0:
            try:
                play_child(tcl, number % 4)
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            if number % 3:
                os._exit(0)
            break  # As a program ends.
        children.append(child)
        assert tcl.eval("exec echo executed") == "executed"
    else:
        tcl.eval("while {!$ended} {vwait ended}")
        tcl.eval("while {!$shut} {vwait shut}")
        busy = int(tcl.eval("set busy"))
        ours = tcl.eval("list $sent $written"), tcl.eval("list $count $crc")
        tcl.eval('''
            close $chan
            close $side
            while {[dict get [iocp::stats] socketsOpen] > 1} {
                after 2 {set tick 1}
                vwait tick
            }
        ''')
        codes = [os.waitpid(child, 0)[1] for child in children]
        count, crc, sent = peer.stdout.readline().split()
        theirs = f"{count} {crc}", f"{SIZE} {sent}"
        lines = int(tcl.eval("regexp -all -line {^a child's$} [read $far]"))
        print(lines == sum(number % 4 != 3 for number in range(FORKS)) or lines, end=" ")
        print(set(codes), ours == theirs or (ours, theirs), busy > FORKS // 10 or busy, peer.wait())
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("notifier", ["tcl", "ring"])
def test_fork_amid_traffic(engine: str, notifier: str, tmp_path: Path) -> None:
    """Children that use, close or leave their copies change nothing of what the parent does."""
    command = [sys.executable, "-c", AMID_TRAFFIC, engine, notifier, PEER]
    assert printed(command, tmp_path, 270) == "True {0} True True 0\n"


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


IN_A_HANDLER = """
import os, signal, socket, sys
import tclchan

def received(size):
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data.decode()

def fork():
    # What the handler has put off, a thread sends meanwhile.
    print(received(6))
    sys.stdout.flush()
    return os.fork()

engine, notifier = sys.argv[1:]
with tclchan.Interp(engine=engine, notifier=notifier) as tcl:
    tcl.command("fork", fork)
    tcl.eval('''
        set listener [socket2 -server accept -myaddr 127.0.0.1 0]
        proc accept {chan host port} {
            set ::chan $chan
            fconfigure $chan -blocking 0 -buffering none -translation binary
            fileevent $chan readable serve
        }
        proc serve {} {
            fileevent $::chan readable {}
            read $::chan
            puts -nonewline $::chan one
            puts -nonewline $::chan two
            set ::child [fork]
        }
    ''')
    port = int(tcl.eval("lindex [fconfigure $listener -sockname] 2"))
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(30)
    sock.sendall(b"x")
    tcl.eval("vwait child")
    child = int(tcl.eval("set child"))
    tcl.eval("after 5 {set passed 1}; vwait passed")
    if child == 0:
        os._exit(0)
    tcl.eval("puts -nonewline $chan three")
    print(os.waitpid(child, 0)[1], received(5))
"""


@pytest.mark.parametrize("notifier", ["tcl", "ring"])
def test_fork_in_a_handler_that_has_written(notifier: str, engine: str, run_python: Run) -> None:
    """What was put off is the parent's, even if it is gone already."""
    done = run_python("-c", IN_A_HANDLER, engine, notifier)
    assert (done.stdout, done.stderr) == ("onetwo\n0 three\n", "")


SERVER = """
import os, signal, socket, sys
import tclchan

engine, notifier, blocking, way = sys.argv[1:]
SIZE = 20_000_000
with tclchan.Interp(engine=engine, notifier=notifier) as tcl:
    tcl.eval("set listener [socket2 -server {lappend ::taken} -myaddr 127.0.0.1 0]")
    port = int(tcl.eval("lindex [fconfigure $listener -sockname] 2"))
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(30)
    tcl.eval("vwait taken; set chan [lindex $taken 0]")
    tcl.eval(f"fconfigure $chan -translation binary -blocking {blocking}")
    child = os.fork()
    if child == 0:
        signal.alarm(200)
        sock.close()
        assert tcl.eval("catch {read $chan 1}; lindex $errorCode 1") == "ENOTCONN"
        tcl.eval(f"puts -nonewline $chan [string repeat x {SIZE}]; {way}")
        sys.exit()
    tcl.eval("close $chan")
    count = 0
    while piece := sock.recv(1 << 16):
        count += len(piece)
    print(os.waitpid(child, 0)[1], count == SIZE or count)
"""


@pytest.mark.parametrize("notifier", ["tcl", "ring"])
@pytest.mark.parametrize("way", ["close $chan", ""], ids=["close", "exit"])
@pytest.mark.parametrize("blocking", [0, 1])
def test_a_child_serves(
    blocking: int, way: str, notifier: str, engine: str, run_python: Run
) -> None:
    """What a child writes arrives, be it as much as it may: nobody but the child waits for it."""
    done = run_python("-c", SERVER, engine, notifier, str(blocking), way)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


PREFORK = """
import os, socket
import tclchan

sock = socket.create_server(("127.0.0.1", 0))
with tclchan.Interp() as tcl:
    port = tcl.eval(f"lindex [iocp::inherit {sock.fileno()}] 2")
    sock.close()
    children = []
    for name in ("a", "b"):
        child = os.fork()
        if child == 0:
            tcl.eval('''
                proc accept {chan host port} {
                    puts $chan %s
                    close $chan
                    set ::done 1
                }
                set listener [socket2 -server accept -myaddr 127.0.0.1 %s]
                vwait done
                close $listener
            ''' % (name, port))
            os._exit(0)
        children.append(child)
    answers = ""
    for _ in children:
        with socket.create_connection(("127.0.0.1", port)) as client:
            answers += client.makefile().read()
            os.waitpid(-1, 0)
    print(" ".join(sorted(answers.split())))
"""


def test_forked_children_share_what_their_parent_has_inherited(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    command = [sys.executable, "-c", PREFORK]
    assert printed(command, tmp_path) == "a b\n"
