"""attach: the driver in an interpreter that tkinter made."""

from __future__ import annotations

import os
import threading
import tkinter
from concurrent.futures import ThreadPoolExecutor

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
        tclchan.attach(tkinter.Tcl(), engine="kqueue")
    assert all(info.name in str(caught.value) for info in ENGINES)


def test_two_engines_in_one_thread_are_refused(engine: str) -> None:
    tcl = tkinter.Tcl()
    tclchan.attach(tcl, engine=engine)
    for other in ENGINES:
        if other.usable and other.name != engine:
            with pytest.raises(tclchan.EngineUnavailable, match=f"uses {engine} already"):
                tclchan.attach(tkinter.Tcl(), engine=other.name)


def test_the_environment_names_the_engine(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLCHAN_ENGINE", engine)
    assert tclchan.attach(tkinter.Tcl()).engine == engine


def test_the_environment_is_left_as_it_was(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen_by_tcl() -> str:
        return str(tkinter.Tcl().eval("array get env TCLCHAN_ENGINE"))

    monkeypatch.setenv("TCLCHAN_ENGINE", "nonsense")
    assert tclchan.attach(tkinter.Tcl(), engine=engine).engine == engine
    assert os.environ["TCLCHAN_ENGINE"] == "nonsense"
    assert seen_by_tcl() == "TCLCHAN_ENGINE nonsense"
    monkeypatch.delenv("TCLCHAN_ENGINE")
    assert tclchan.attach(tkinter.Tcl(), engine=engine).engine == engine
    assert "TCLCHAN_ENGINE" not in os.environ
    assert seen_by_tcl() == ""


def test_what_tcl_put_into_the_environment_counts(engine: str) -> None:
    tcl = tkinter.Tcl()
    tcl.eval(f"set env(TCLCHAN_ENGINE) {engine}")
    try:
        for other in ENGINES:
            if other.usable:
                assert tclchan.attach(tkinter.Tcl(), engine=other.name).engine == other.name
        assert tclchan.attach(tkinter.Tcl()).engine == engine
    finally:
        tcl.eval("unset env(TCLCHAN_ENGINE)")


def test_threads_that_start_at_once_get_what_they_ask_for() -> None:
    wanted = ["auto", *(info.name for info in ENGINES if info.usable)] * 12
    barrier = threading.Barrier(len(wanted), timeout=30)

    def work(name: str) -> str:
        tcl = tkinter.Tcl()
        barrier.wait()
        return tclchan.attach(tcl, engine=name).engine

    with ThreadPoolExecutor(len(wanted)) as executor:
        got = list(executor.map(work, wanted))
    default = next(info.name for info in ENGINES if info.usable)
    assert got == [default if name == "auto" else name for name in wanted]
