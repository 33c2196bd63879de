"""The .test files of tcl_tests, and what is to be seen in the output of a run of one."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest

TCL_TESTS = pathlib.Path(__file__).resolve().parent.parent / "tcl_tests"
FILES = sorted(path.name for path in TCL_TESTS.glob("*.test"))

# From all.tcl, or from the file that was run alone.
TOTALS = re.compile(
    r"^(?:all\.tcl|\w+\.test):\tTotal\t(\d+)\tPassed\t(\d+)\tSkipped\t(\d+)\tFailed\t(\d+)$",
    re.MULTILINE,
)
SKIPS = re.compile(r"^\t(\d+)\t(.+)$", re.MULTILINE)


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
