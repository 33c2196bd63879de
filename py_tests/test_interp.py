"""Interp: evaluation, commands, the event loop, exit, and the end."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Run, descriptors, in_thread, posix_threads

import tclchan


def test_eval_returns_strings_and_call_converts(interp: tclchan.Interp) -> None:
    assert interp.eval("expr {6 * 7}") == "42"
    assert interp.call("expr", "6 * 7") == 42
    assert interp.call("list", "a b", "$c") == ("a b", "$c")
    assert interp.call("binary", "format", "c", 200) == b"\xc8"


def test_is_like_a_tclsh_for_a_script() -> None:
    with tclchan.Interp(argv0="name", argv=["a b", "c"]) as interp:
        assert interp.eval("list $argv0 $argc $argv $tcl_interactive") == "name 2 {{a b} c} 0"
        assert tclchan.library_dir().as_posix() in interp.tk.splitlist(interp.eval("set auto_path"))


def test_reads_no_profile(tmp_path: Path, run_python: Run) -> None:
    for name in (".Tk.tcl", ".tclchan.tcl", ".Tclchan.tcl"):
        (tmp_path / name).write_text("puts profile")
    env = {**os.environ, "HOME": str(tmp_path)}
    done = run_python("import tclchan; tclchan.Interp().close()", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_replace_socket(engine: str) -> None:
    with tclchan.Interp(engine=engine, replace_socket=True) as interp:
        interp.call("::tclchan::replace_socket")
        assert interp.eval("socket -server list -myaddr 127.0.0.1 0").startswith("iocp")
        assert interp.eval("tcl_core_socket -server list -myaddr 127.0.0.1 0").startswith("sock")


def test_commands_take_strings_and_return_values(interp: tclchan.Interp) -> None:
    interp.command("::math::sum", lambda *numbers: sum(map(int, numbers)))
    interp.command("pair", lambda a, b: [a, b])
    interp.command("nothing", lambda: None)
    assert interp.eval("math::sum 1 2 3") == "6"
    assert interp.eval("lindex [pair {x y} z] 0") == "x y"
    assert interp.eval("nothing") == ""
    interp.command("nothing", lambda: "something")
    assert interp.eval("nothing") == "something"


def test_eval_in_a_command_is_at_the_global_level(interp: tclchan.Interp) -> None:
    interp.command("peek", lambda: interp.eval("info level; set x"))
    assert interp.eval("set x global; proc f {} {set x local; peek}; f") == "global"
    assert interp.eval("return early; error no") == "early"


EXITS = {
    "plain": "exit 7",
    "in catch": "while 1 {catch {catch {exit 7}}}",
    "in try": "try {exit 7} finally {while 1 {}}",
    "in a procedure": "proc f {} {catch {exit 7}; error no}; f",
    "in an event handler": "after 0 {catch {exit 7}; error no}; vwait forever",
    "in nested loops": """
        proc nest n {
            if {$n} {after 0 [list nest [expr {$n - 1}]]; catch {vwait forever}; error no}
            catch {exit 7}
            error no
        }
        catch {nest 5}
        vwait forever
    """,
    "in update": "after 0 {catch {exit 7}}; while 1 {catch update}",
    "in a coroutine": """
        coroutine c apply {{} {yield; catch {exit 7}; error no}}
        catch c
        while 1 {}
    """,
    "in nested coroutines": """
        coroutine a apply {{} {
            yield
            coroutine b apply {{} {yield; catch {exit 7}; error no}}
            catch b
            while 1 {}
        }}
        catch a
        while 1 {}
    """,
    "in a coroutine in a handler": """
        coroutine c apply {{} {yield; catch {exit 7}; error no}}
        after 0 c
        catch {vwait forever}
        while 1 {}
    """,
    "in a coroutine under a C call": """
        coroutine c apply {{} {
            yield
            lsort -command {apply {{a b} {catch {exit 7}; return 0}}} {1 2}
            error no
        }}
        after 0 c
        catch {vwait forever}
        vwait forever
    """,
    "in a child interpreter": """
        catch {interp delete child}
        interp create child
        child alias exit exit
        child eval {after 0 {catch {exit 7}}; catch {vwait forever}; while 1 {}}
    """,
}


@pytest.mark.parametrize("script", EXITS.values(), ids=EXITS.keys())
def test_exit_ends_the_script(
    interp: tclchan.Interp, script: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "script.tcl"
    file.write_text(script)
    assert interp.source(file) == 7
    with pytest.raises(SystemExit) as caught:
        interp.eval(script)
    assert caught.value.code == 7
    interp.eval("after 0 {set done 1}; vwait done; flush stderr")
    assert capfd.readouterr().err == ""


def test_exit_in_a_socket_handler_in_a_sourced_server(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "server.tcl"
    file.write_text("""
        proc serve {sock host port} {
            fileevent $sock readable [list answer $sock]
            catch {vwait nested}
            error no
        }
        proc answer sock {
            gets $sock line
            catch {exit $line}
            error no
        }
        catch {
            set listener [socket2 -server serve -myaddr 127.0.0.1 0]
            set client [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
            puts $client 7
            flush $client
            catch {vwait forever}
            error no
        }
        error no
    """)
    with tclchan.Interp(engine=engine) as interp:
        assert interp.source(file) == 7


def test_child_interpreters_survive_the_exit(interp: tclchan.Interp) -> None:
    interp.eval("""
        interp create child
        interp create -safe {child grandchild}
        after 0 {exit 7}
    """)
    assert interp.run() == 7
    for child in ("child", "child grandchild"):
        assert interp.call("interp", "eval", child, "set x 1") == "1"
    interp.eval("after 0 {interp eval child {after 0 {set ::done 1}}; exit 8}")
    assert interp.run() == 8
    assert interp.eval("interp eval child {vwait done; set done}") == "1"


def test_exit_checks_its_argument(interp: tclchan.Interp) -> None:
    with pytest.raises(tclchan.ScriptError, match='expected integer but got "x"'):
        interp.eval("exit x")
    with pytest.raises(tclchan.ScriptError, match=r'should be "exit \?returnCode\?"'):
        interp.eval("exit 1 2")
    with pytest.raises(SystemExit) as caught:
        interp.eval("exit")
    assert caught.value.code == 0


def test_exit_passes_through_commands_in_python(interp: tclchan.Interp) -> None:
    interp.command("detour", lambda: interp.eval("catch {exit 5}; error no"))
    interp.eval("after 0 {catch detour; error no}")
    assert interp.run() == 5
    interp.command("leave", lambda: sys.exit(6))
    interp.eval("after 0 {catch leave; error no}")
    assert interp.run() == 6


def test_context_managers_run_when_a_command_is_left(interp: tclchan.Interp) -> None:
    left = []

    def work() -> None:
        try:
            interp.eval("after 0 {exit 4}; vwait forever")
        finally:
            left.append("work")

    interp.command("work", work)
    interp.eval("after 0 work")
    assert interp.run() == 4
    assert left == ["work"]


def test_source_sets_argv0_and_returns_0_at_the_end(interp: tclchan.Interp, tmp_path: Path) -> None:
    file = tmp_path / "script.tcl"
    file.write_text("set ran [list $argv0 [info script]]")
    assert interp.source(file) == 0
    assert interp.tk.splitlist(interp.eval("set ran")) == (str(file), str(file))


def test_source_reports_what_a_tclsh_prints(interp: tclchan.Interp, tmp_path: Path) -> None:
    file = tmp_path / "script.tcl"
    file.write_text("\nerror oops")
    with pytest.raises(tclchan.ScriptError) as caught:
        interp.source(file)
    assert caught.value.errorinfo.endswith(f'(file "{file}" line 2)')
    with pytest.raises(tclchan.ScriptError, match="no such file") as caught:
        interp.source(tmp_path / "none.tcl")
    assert caught.value.errorinfo == str(caught.value)


@pytest.mark.parametrize(
    "script", ["vwait forever", "while 1 {}", "while 1 {update}", "while 1 {catch {vwait forever}}"]
)
def test_stop_from_another_thread(interp: tclchan.Interp, script: str) -> None:
    interp.command("started", threading.Timer(0.01, interp.stop, (9,)).start)
    with pytest.raises(SystemExit) as caught:
        interp.eval(f"started; {script}")
    assert caught.value.code == 9
    assert interp.eval("set usable 1") == "1"


@posix_threads
def test_stop_of_an_interpreter_in_another_thread(engine: str) -> None:
    ready: list[tclchan.Interp] = []
    running = threading.Event()
    codes = []

    def work() -> None:
        with tclchan.Interp(engine=engine) as interp:
            ready.append(interp)
            interp.command("running", running.set)
            interp.eval("after 0 {running; while 1 {}}")
            codes.append(interp.run())

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(10)
    ready[0].stop(8)
    thread.join(10)
    assert codes == [8]


def test_a_stop_that_nobody_waits_for_ends_the_next_evaluation(interp: tclchan.Interp) -> None:
    interp.stop(2)
    assert interp.run() == 2
    interp.stop()
    with pytest.raises(SystemExit):
        interp.eval("set x 1")
    assert interp.eval("set x 1") == "1"


def test_other_threads_run_while_tcl_waits(interp: tclchan.Interp) -> None:
    steps: list[int] = []

    def work() -> None:
        steps.extend(range(3))
        interp.stop()

    threading.Timer(0.01, work).start()
    assert interp.run() == 0
    assert steps == [0, 1, 2]


def test_only_its_own_thread_may_use_it(interp: tclchan.Interp) -> None:
    for use in (
        lambda: interp.eval("set x 1"),
        lambda: interp.source("/nowhere"),
        interp.run,
        interp.close,
    ):
        with pytest.raises(RuntimeError, match="only on the thread that made it"):
            in_thread(use)


def test_is_closed_once_and_for_all() -> None:
    interp = tclchan.Interp()
    interp.close()
    interp.close()
    with pytest.raises(RuntimeError, match="is closed"):
        interp.eval("set x 1")
    interp.stop()


def test_cannot_be_closed_from_within(interp: tclchan.Interp) -> None:
    interp.command("close_it", interp.close)
    with pytest.raises(RuntimeError, match="while it evaluates"):
        interp.eval("close_it")


def test_close_gives_everything_back() -> None:
    def use() -> weakref.ref[tclchan.Interp]:
        interp = tclchan.Interp()
        interp.command("f", lambda: interp.eval("set x 1"))
        interp.eval(f"f; socket2 -server list -myaddr 127.0.0.1 0; open {os.devnull}")
        interp.close()
        return weakref.ref(interp)

    use()
    before = (descriptors(), threading.active_count())
    gone = [use() for _ in range(5)]
    gc.collect()
    assert (descriptors(), threading.active_count()) == before
    assert [ref() for ref in gone] == [None] * 5


def test_a_forgotten_interpreter_is_closed_with_a_warning() -> None:
    def forget() -> None:
        tclchan.Interp().eval("socket2 -server list -myaddr 127.0.0.1 0")
        gc.collect()

    before = tclchan.stats().sockets_open
    with pytest.warns(ResourceWarning, match="unclosed interpreter"):
        forget()
    assert tclchan.stats().sockets_open == before


def test_a_failed_start_leaves_nothing(engine: str) -> None:
    tclchan.Interp(engine=engine).close()
    before = descriptors()
    for _ in range(3):
        with pytest.raises(ValueError, match="unknown engine"):
            tclchan.Interp(engine="kqueue")
    assert descriptors() == before


@posix_threads
def test_threads_give_back_their_engines(engine: str) -> None:
    barrier = threading.Barrier(50, timeout=30)

    def work(number: int) -> str:
        with tclchan.Interp(engine=engine) as interp:
            barrier.wait()
            return interp.eval(f"""
                proc answer {{sock host port}} {{puts $sock [gets $sock]; close $sock}}
                set listener [socket2 -server answer -myaddr 127.0.0.1 0]
                set sock [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
                puts $sock {number}
                flush $sock
                fconfigure $sock -blocking 0
                fileevent $sock readable {{set line [gets $sock]}}
                vwait line
                set line
            """)

    before = descriptors()
    with ThreadPoolExecutor(50) as executor:
        assert list(executor.map(work, range(50))) == [str(number) for number in range(50)]
    assert descriptors() == before


@pytest.mark.parametrize("last", ["", "close $sock"], ids=["open", "closed"])
def test_close_sends_what_was_written(engine: str, last: str) -> None:
    size = 10_000_000
    received = bytearray()
    written = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def receive() -> None:
            with server.accept()[0] as peer:
                written.wait(20)
                peer.settimeout(20)
                while chunk := peer.recv(65536):
                    received.extend(chunk)

        reader = threading.Thread(target=receive)
        reader.start()
        with tclchan.Interp(engine=engine) as interp:
            interp.eval(f"""
                set sock [socket2 127.0.0.1 {server.getsockname()[1]}]
                fconfigure $sock -blocking 0 -translation binary
                puts -nonewline $sock [string repeat x {size}]
                {last}
            """)
            written.set()
        reader.join(30)
    assert len(received) == size


def test_what_is_open_at_exit_is_sent(run_python: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run_python(f"""if 1:
            import tclchan
            interp = tclchan.Interp()
            interp.eval("puts -nonewline unfinished")
            sock = interp.eval("socket2 127.0.0.1 {server.getsockname()[1]}")
            interp.call("puts", "-nonewline", sock, "last words")
        """)
        assert (done.returncode, done.stdout, done.stderr) == (0, "unfinished", "")
        with server.accept()[0] as peer:
            assert peer.recv(100) == b"last words"


def test_what_is_closed_after_another_interpreter_is_sent(run_python: Run) -> None:
    size = 20_000_000
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def receive() -> int:
            with server.accept()[0] as peer, server.accept()[0]:
                peer.settimeout(20)
                return sum(map(len, iter(lambda: peer.recv(65536), b"")))

        with ThreadPoolExecutor(1) as executor:
            received = executor.submit(receive)
            done = run_python(f"""if 1:
                import socket, tclchan, tkinter
                tcl = tkinter.Tcl()
                tclchan.attach(tcl)
                address = {server.getsockname()}
                tcl.eval(f"set sock [socket2 {{address[0]}} {{address[1]}}]")
                tclchan.Interp().close()
                tcl.eval("fconfigure $sock -blocking 0 -translation binary -sendcap 1000")
                tcl.eval("fconfigure $sock -buffersize 65536")
                tcl.eval("puts -nonewline $sock [string repeat x {size}]; close $sock")
                socket.create_connection(address).close()
            """)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert received.result(30) == size


def test_close_waits_for_no_program() -> None:
    began = time.monotonic()
    with tclchan.Interp() as interp:
        interp.call("set", "program", (sys.executable, "-c", "import time; time.sleep(30)"))
        pid = interp.eval("pid [open |$program]")
    assert time.monotonic() - began < 15
    os.kill(int(pid), 9)
