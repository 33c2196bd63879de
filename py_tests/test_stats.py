"""stats: the counters, seen from Python."""

from __future__ import annotations

import inspect
from dataclasses import asdict

import pytest

import tclchan
from tclchan._ffi import ffi, lib
from tclchan._stats import _python_name


def test_has_every_counter_of_the_driver(interp: tclchan.Interp) -> None:
    names = [ffi.string(lib.Iocp_StatName(i)).decode() for i in range(lib.Iocp_StatCount())]
    assert [_python_name(name) for name in names] == list(asdict(tclchan.stats()))
    told = interp.call("dict", "keys", interp.eval("iocp::stats"))
    assert set(interp.tk.splitlist(told)) == {*names, "engine"}


def test_documents_every_counter() -> None:
    for name in asdict(tclchan.stats()):
        assert f"\n    {name}: " in inspect.cleandoc(tclchan.Stats.__doc__ or "")


def test_counts_an_exchange(engine: str) -> None:
    before = tclchan.stats()
    with tclchan.Interp(engine=engine) as interp:
        interp.eval("""
            proc serve {sock host port} {
                fconfigure $sock -blocking 0 -translation binary
                fileevent $sock readable [list echo $sock]
            }
            proc echo sock {
                puts -nonewline $sock [read $sock]
                flush $sock
                if {[eof $sock]} {close $sock}
            }
            set listener [socket2 -server serve -myaddr 127.0.0.1 0]
            set client [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
            fconfigure $client -translation binary -blocking 0
            puts -nonewline $client [string repeat x 1000]
            flush $client
            fileevent $client readable {append got [read $client]}
            while {[string length [append got ""]] < 1000} {vwait got}
        """)
        during = tclchan.stats()
        assert during.sockets_open - before.sockets_open == 3
        assert during.accepts - before.accepts == 1
        assert during.connects - before.connects == 1
        assert during.bytes_received - before.bytes_received == 2000
        assert during.bytes_sent - before.bytes_sent == 2000
    after = tclchan.stats()
    assert after.sockets_open == before.sockets_open
    assert after.bytes_queued == 0


def test_counts_for_one_engine(engine: str) -> None:
    other = next((info.name for info in tclchan.engines() if info.name != engine), None)
    before = tclchan.stats(engine)
    others_before = tclchan.stats(other) if other else None
    with tclchan.Interp(engine=engine) as interp:
        interp.eval("close [socket2 -server none -myaddr 127.0.0.1 0]")
    after = tclchan.stats(engine)
    assert after.channels_opened - before.channels_opened == 1
    assert after.channels_opened <= tclchan.stats().channels_opened
    assert other is None or tclchan.stats(other) == others_before


def test_an_engine_that_there_is_not() -> None:
    names = " or ".join(info.name for info in tclchan.engines())
    with pytest.raises(ValueError, match=f'unknown engine "nosuch": must be {names}'):
        tclchan.stats("nosuch")
