"""attach: the driver in an interpreter that tkinter made."""

from __future__ import annotations

import tkinter

import pytest
from conftest import ENGINES, in_thread

import tclchan


def test_gives_socket2_to_a_tkinter_interpreter(engine: str) -> None:
    tcl = tkinter.Tcl()
    attachment = tclchan.attach(tcl, engine=engine)
    assert attachment == tclchan.Attachment(engine, tcl.eval("package present iocpsock"))
    listener = tcl.eval("socket2 -server list -myaddr 127.0.0.1 0")
    assert listener.startswith("iocp")
    tcl.tk.call("close", listener)


def test_a_second_call_does_no_harm(engine: str) -> None:
    tcl = tkinter.Tcl()
    assert tclchan.attach(tcl, engine=engine) == tclchan.attach(tcl)


def test_takes_an_interp(interp: tclchan.Interp) -> None:
    assert tclchan.attach(interp).engine == interp.eval("iocp::engine")


def test_another_thread_is_an_error_at_once() -> None:
    tcl = tkinter.Tcl()
    with pytest.raises(tclchan.AttachError, match="on the thread of the interpreter"):
        in_thread(lambda: tclchan.attach(tcl))


def test_an_unknown_engine_names_those_there_are() -> None:
    with pytest.raises(ValueError, match='unknown engine "kqueue": must be auto') as caught:
        in_thread(lambda: tclchan.attach(tkinter.Tcl(), engine="kqueue"))
    assert all(info.name in str(caught.value) for info in ENGINES)


def test_two_engines_in_one_thread_are_refused(engine: str) -> None:
    tclchan.attach(tkinter.Tcl(), engine=engine)
    for other in ENGINES:
        if other.usable and other.name != engine:
            with pytest.raises(tclchan.EngineUnavailable, match=f"uses {engine} already"):
                tclchan.attach(tkinter.Tcl(), engine=other.name)


def test_the_environment_names_the_engine(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    assert tclchan.attach(tkinter.Tcl()).engine == engine


def test_the_environment_is_left_as_it_was(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("TCLCHAN_ENGINE", "nonsense")
    assert tclchan.attach(tkinter.Tcl(), engine=engine).engine == engine
    assert os.environ["TCLCHAN_ENGINE"] == "nonsense"
