"""The exceptions: what they are, and how they cross the border between Tcl and Python."""

from __future__ import annotations

import tkinter

import pytest

import tclchan


def test_all_are_tclchan_errors() -> None:
    for name in tclchan.__all__:
        value = getattr(tclchan, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, tclchan.TclchanError)


def test_engine_unavailable_has_its_parts() -> None:
    error = tclchan.EngineUnavailable("io_uring", "Operation not permitted")
    assert (error.engine, error.reason) == ("io_uring", "Operation not permitted")
    assert str(error) == 'engine "io_uring" cannot be used here: Operation not permitted'


def test_a_script_error_has_code_and_trace(interp: tclchan.Interp) -> None:
    with pytest.raises(tclchan.ScriptError, match=r"^no luck$") as caught:
        interp.eval("proc f {} {error {no luck} {} {MY CODE 7}}; f")
    assert caught.value.errorcode == ("MY", "CODE", "7")
    assert 'procedure "f" line 1' in caught.value.errorinfo
    assert isinstance(caught.value, tkinter.TclError)
    assert caught.value.__context__ is None


def test_a_refused_connection_is_what_the_core_makes_of_it(engine: str) -> None:
    with tclchan.Interp(engine=engine) as interp:
        port = interp.eval("""
            set s [socket -server list -myaddr 127.0.0.1 0]
            set port [lindex [fconfigure $s -sockname] 2]
            close $s
            set port
        """)
        failures = []
        for command in ("socket", "socket2"):
            with pytest.raises(tclchan.ScriptError) as caught:
                interp.call(command, "127.0.0.1", port)
            failures.append((str(caught.value), caught.value.errorcode))
        assert failures[0] == failures[1]
        assert failures[0][1][:2] == ("POSIX", "ECONNREFUSED")


def test_an_exception_comes_out_of_eval_as_itself(interp: tclchan.Interp) -> None:
    error = KeyError("gone")

    def fail() -> None:
        raise error

    interp.command("fail", fail)
    with pytest.raises(KeyError) as caught:
        interp.eval("proc f {} fail; f")
    assert caught.value is error
    assert 'procedure "f" line 1' in error.__notes__[0]


def test_tcl_can_catch_an_exception(interp: tclchan.Interp) -> None:
    def fail() -> None:
        raise ValueError("too big")

    interp.command("fail", fail)
    assert interp.eval("catch fail message; set message") == "too big"
    assert interp.eval("lrange $errorCode 0 1") == "PYTHON ValueError"
    assert "in fail\n" in interp.eval("set errorInfo")
    assert interp.eval("try fail trap {PYTHON ValueError} {} {string cat trapped}") == "trapped"


def test_a_caught_exception_does_not_come_out_later(interp: tclchan.Interp) -> None:
    def fail() -> None:
        raise ValueError("too big")

    interp.command("fail", fail)
    with pytest.raises(tclchan.ScriptError, match="other"):
        interp.eval("catch fail; error other")


def test_a_tcl_error_passes_through_python(interp: tclchan.Interp) -> None:
    interp.command("detour", lambda: interp.eval("error inner {} {MY CODE}"))
    assert interp.eval("try detour trap {MY CODE} message {set message}") == "inner"


def test_an_exception_in_an_event_handler_reaches_bgerror(interp: tclchan.Interp) -> None:
    def fail() -> None:
        raise ValueError("in the background")

    interp.command("fail", fail)
    interp.eval("proc bgerror message {set ::got [list $message $::errorInfo]; stop}")
    interp.command("stop", lambda: interp.stop(3))
    interp.eval("after 0 fail")
    assert interp.run() == 3
    assert interp.eval("lindex $got 0") == "in the background"
    assert "ValueError" in interp.eval("lindex $got 1")


@pytest.mark.posix("there, Tcl keeps the standard channels that it has had at first")
def test_without_bgerror_the_traceback_is_on_stderr(
    interp: tclchan.Interp, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("in the background")

    interp.command("fail", fail)
    interp.eval("after 0 {after idle {after 0 {exit 0}}; fail}")
    assert interp.run() == 0
    interp.eval("flush stderr")
    errors = capfd.readouterr().err
    assert "Traceback (most recent call last)" in errors
    assert "ValueError: in the background" in errors
    assert '("after" script)' in errors


def test_an_exception_in_a_raw_tkinter_callback_is_not_lost(interp: tclchan.Interp) -> None:
    def fail() -> None:
        raise ValueError("raw")

    interp.tk.createcommand("fail", fail)
    with pytest.raises(ValueError, match="raw"):
        interp.eval("catch fail")
    assert interp.eval("set works 1") == "1"
    interp.tk.deletecommand("fail")
