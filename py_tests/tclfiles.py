"""The .test files of tcl_tests, how they are run, and what is to be seen in the output."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest

TCL_TESTS = pathlib.Path(__file__).resolve().parent.parent / "tcl_tests"
FILES = sorted(path.name for path in TCL_TESTS.glob("*.test"))

# From all.tcl, or from the file that was run alone.
TOTALS = re.compile(
    r"^(?:all\.tcl|\w+\.test):\tTotal\t(\d+)\tPassed\t(\d+)\tSkipped\t(\d+)\tFailed\t(\d+)$",
    re.MULTILINE,
)
SKIPS = re.compile(r"^\t(\d+)\t(.+)$", re.MULTILINE)


@cache
def own_network() -> list[str]:
    """Return the beginning of a command that runs in a network of its own: nothing, if it cannot.

    Nobody takes the ports there that a test has given up to take them again, or needs a second time
    for another address.
    """
    command = [sys.executable, str(TCL_TESTS / "ownnet.py")]
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else []


def run_session(
    command: Sequence[str], timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program, and return all that it says on either output.

    With what it has started: that is in the session of its own that it gets. Late, all are ended.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        **options,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\n{command} did not end within {timeout:.0f} s"
        return subprocess.CompletedProcess(command, process.returncode, output)


def judge(
    name: str, code: int, output: str, record_property: Callable[[str, object], None]
) -> None:
    """Fail unless every test of the file has passed, or was skipped for a reason that is told."""
    print(output)
    totals = TOTALS.search(output)
    assert code == 0, f"{name} ended with {code}"
    assert totals is not None, f"{name} printed no totals"
    total, passed, skipped, failed = (int(value) for value in totals.groups())
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
