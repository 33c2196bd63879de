"""The driver's own tests, written in Tcl: one pytest test for each .test file, engine and Tcl.

Each runs ``tclsh tcl_tests/all.tcl -file X`` in a process of its own. A test that Tcl skipped must
say why: the files print ``without CONSTRAINT: REASON`` for every constraint that does not hold.
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import Tclsh

import tclchan

TCL_TESTS = pathlib.Path(__file__).resolve().parent.parent / "tcl_tests"
FILES = sorted(path.name for path in TCL_TESTS.glob("*.test"))
TIMEOUT_S = 100.0

TOTALS = re.compile(
    r"^all\.tcl:\tTotal\t(\d+)\tPassed\t(\d+)\tSkipped\t(\d+)\tFailed\t(\d+)$", re.MULTILINE
)
SKIPS = re.compile(r"^\t(\d+)\t(.+)$", re.MULTILINE)


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
    print(output)
    totals = TOTALS.search(output)
    assert code == 0, f"{name} on {engine} ended with {code}"
    assert totals is not None, f"{name} on {engine} printed no totals"
    total, passed, skipped, failed = (int(value) for value in totals.groups())
    assert re.search(
        rf"^engine: {engine};.*; Tcl {re.escape(tclsh.version)}\.", output, re.MULTILINE
    )
    assert failed == 0
    assert total == passed + skipped > 0
    explained = 0
    for count, constraint in SKIPS.findall(output[totals.end() :]):
        assert f"\nwithout {constraint}: " in output, f"nobody says why {constraint} does not hold"
        explained += int(count)
    assert explained == skipped
    if passed == 0:
        reasons = re.findall(r"^without (\w+: .*)$", output, re.MULTILINE)
        needed = {constraint for _, constraint in SKIPS.findall(output[totals.end() :])}
        pytest.skip("; ".join(reason for reason in reasons if reason.split(":")[0] in needed))
    record_property("passed", passed)
    record_property("skipped", skipped)
