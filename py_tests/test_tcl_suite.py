"""The driver's own tests, written in Tcl: one pytest test for each .test file, engine and Tcl.

Each runs ``tclsh tcl_tests/all.tcl -file X`` in a process and a network of its own. A test that Tcl
skipped must say why: the files print ``without CONSTRAINT: REASON`` for every constraint that does
not hold.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import pytest
from conftest import Tclsh
from tclfiles import FILES, TCL_TESTS, judge, own_network, run_session

import tclchan

TIMEOUT_S = 100.0


def run_file(name: str, engine: str, tclsh: Tclsh) -> tuple[int, str]:
    """Run one file on one engine; its exit code and everything it printed."""
    environment = {
        **os.environ,
        "TCLCHAN_ENGINE": engine,
        "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
        "TCLCHAN_PYTHON": sys.executable,
    }
    environment.pop("TCLCHAN_TEST_CORE", None)
    command = [*own_network(), tclsh.path, str(TCL_TESTS / "all.tcl"), "-file", name]
    done = run_session(command, TIMEOUT_S, env=environment)
    return done.returncode, done.stdout


def test_there_are_files() -> None:
    """A suite that finds nothing to run must not pass."""
    assert {"tcp.test", "chan.test", "event.test", "conformance.test"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_tcl(
    name: str, engine: str, tclsh: Tclsh, record_property: Callable[[str, object], None]
) -> None:
    """Every test of the file passes, or is skipped for a reason that is told."""
    code, output = run_file(name, engine, tclsh)
    judge(name, code, output, record_property)
    assert re.search(
        rf"^engine: {engine};.*; Tcl {re.escape(tclsh.version)}\.", output, re.MULTILINE
    )
