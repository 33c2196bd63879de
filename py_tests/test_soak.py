"""`make soak`: one short round of its load for each engine and Tcl, and that it skips nothing."""

from __future__ import annotations

import pytest
import soak
from conftest import Tclsh, tclsh_of

import tclchan


def test_soak(engine: str, tclsh: Tclsh) -> None:
    """Bursty downloads among clients that reset and give up: all whole, nothing left."""
    print(soak.soak(tclsh.path, engine, tclchan.library_dir(), soak.SHORT, 0.0))


def test_soak_skips_nothing(engine: str) -> None:
    """With a driver that has no faults to order, as this one, its tests are no success."""
    found = tclsh_of("8.6")
    assert found is not None
    with pytest.raises(AssertionError, match="TCLCHAN_REQUIRE: without testing: "):
        soak.regress(found.path, engine, tclchan.library_dir())
