"""The driver's own tests, written in Tcl: one pytest test for each .test file, engine and Tcl.

Each runs ``tclsh tcl_tests/all.tcl -file X`` in a process of its own. A test that Tcl skipped must
say why: the files print ``without CONSTRAINT: REASON`` for every constraint that does not hold.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import Tclsh
from tclfiles import FILES, TCL_TESTS, judge

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
    with subprocess.Popen(
        [tclsh.path, str(TCL_TESTS / "all.tcl"), "-file", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # The file's own process and the children of its tests are in the session we started.
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\n{name} did not end within {TIMEOUT_S:.0f} s"
        return process.returncode, output


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
