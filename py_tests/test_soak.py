"""One short round of `make soak` for each engine and Tcl."""

from __future__ import annotations

import soak
from conftest import Tclsh

import tclchan


def test_soak(engine: str, tclsh: Tclsh) -> None:
    """Bursty downloads among clients that reset and give up: all whole, nothing left."""
    print(soak.soak(tclsh.path, engine, tclchan.library_dir(), soak.SHORT, 0.0))
