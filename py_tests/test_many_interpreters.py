"""Programs that make interpreters again and again: nothing may stay behind."""

from __future__ import annotations

import gc
import os
import threading
import tkinter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import WINDOWS, descriptors, posix_threads

import tclchan

# Each takes 50 ms under Wine.
MANY = 100 if WINDOWS else 1000

USE = """
    proc answer {chan args} {fconfigure $chan -blocking 0; puts $chan hello; flush $chan}
    set listener [socket2 -server answer -myaddr 127.0.0.1 0]
    set client [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
    fconfigure $client -blocking 0
    fileevent $client readable {set line [gets $client]}
    vwait line
    set line
"""


def resident() -> int:
    """Memory of this process in bytes; 0 where nobody can tell."""
    if WINDOWS:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state() -> tuple[int, int, int, int]:
    gc.collect()
    stats = tclchan.stats()
    return descriptors(), threading.active_count(), stats.sockets_open, stats.heap_bytes


def repeat(use: Callable[[], None], warm: int, count: int, growth: int = 4_000_000) -> None:
    """Call *use* so often; the process is the same after it as when it was warm.

    What Tcl itself keeps of an interpreter is some hundred bytes, of a thread that is not its own
    200 kB.
    """
    for _ in range(warm):
        use()
    before, memory = state(), resident()
    for _ in range(count):
        use()
    assert state() == before
    assert resident() - memory < growth


@pytest.mark.parametrize("close", [True, False], ids=["closed", "open"])
def test_a_thousand_interpreters(engine: str, close: bool) -> None:
    """In one thread, one after the other, with their channels closed or still open."""

    def use() -> None:
        with tclchan.Interp(engine=engine) as interp:
            assert interp.eval(USE) == "hello"
            if close:
                interp.eval("close $client; close $listener")

    repeat(use, 50, MANY)


@posix_threads
def test_interpreters_of_many_threads(engine: str) -> None:
    """Each thread makes some, and ends."""

    def work(number: int) -> str:
        with tclchan.Interp(engine=engine) as interp:
            return interp.eval(USE)

    def use() -> None:
        with ThreadPoolExecutor(5) as executor:
            assert set(executor.map(work, range(10))) == {"hello"}

    repeat(use, 5, 20, growth=50_000_000)


def test_a_hundred_interpreters_at_once(engine: str) -> None:
    """Of tkinter, attached to one engine."""

    def use() -> None:
        interps = [tkinter.Tcl() for _ in range(100)]
        for interp in interps:
            assert tclchan.attach(interp, engine=engine).engine == engine
        assert [interp.tk.eval(USE) for interp in interps] == ["hello"] * 100

    repeat(use, 2, 3)
