"""The list of known bugs is complete, and what it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT, tclsh_of
from coresuites import fetched

import tclchan

TCL_TESTS = ROOT / "tcl_tests"
RANGES = {"U": 3, "I": 45, "L": 19, "N": 23, "M": 8}
IDS = [f"{group}{number}" for group, last in RANGES.items() for number in range(1, last + 1)]
IDS += [f"U1{letter}" for letter in "abcde"]

ROW = re.compile(r"^\| (\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = ROW.findall((TCL_TESTS / "BUGS.md").read_text().split("|---|---|---|")[1])
CONSTRUCTION = re.compile(r"by construction: `(\w+)` in `([\w./]+)`, \w.+")


@cache
def tcl_tests() -> set[str]:
    """The names of all tests of the .test files."""
    tclsh = tclsh_of("8.6")
    assert tclsh is not None
    done = subprocess.run(
        [tclsh.path, str(TCL_TESTS / "all.tcl")],
        env={
            **os.environ,
            "TCLCHAN_LIST": "1",
            "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
            "TCLCHAN_PYTHON": sys.executable,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = re.findall(r"^test (\S+)$", done.stdout, re.MULTILINE)
    assert len(names) > 1000
    return set(names)


@cache
def core_tests() -> set[str]:
    """The names of the tests of Tcl's socket.test, which test_core_suites.py runs."""
    text = (fetched("tcl8.6-source") / "tests" / "socket.test").read_text(errors="replace")
    names = re.findall(r"^\s*test (\S+) ", text, re.MULTILINE)
    families = (name.replace("$af", family) for name in names for family in ("inet", "inet6"))
    return set(families)


def exists(name: str) -> bool:
    if name.startswith("core:"):
        return name.removeprefix("core:") in core_tests()
    if name.startswith("py:"):
        path, _, function = name.removeprefix("py:").partition("::")
        text = (ROOT / "py_tests" / path).read_text()
        return f"def {function or 'test_'}" in text
    return name in tcl_tests()


def test_every_bug_is_listed_once() -> None:
    assert sorted(bug for bug, _, _ in ROWS) == sorted(IDS)


@pytest.mark.parametrize(("bug", "shows"), [(row[0], row[2]) for row in ROWS])
def test_what_shows_it_exists(bug: str, shows: str) -> None:
    if found := CONSTRUCTION.fullmatch(shows):
        procedure, path = found.groups()
        assert re.search(rf"^{procedure}\(", (ROOT / path).read_text(), re.MULTILINE), shows
    else:
        missing = [name for name in shows.split(", ") if not exists(name)]
        assert missing == []


def test_the_tests_of_bugs_are_of_listed_bugs() -> None:
    text = "".join((TCL_TESTS / f"{n}.test").read_text() for n in ("regress", "regress_fault"))
    named = set(re.findall(r"^\s*test regress-(\w+)\.", text, re.MULTILINE))
    assert named <= set(IDS)
    unlisted = [bug for bug in named if not any(f"regress-{bug}." in shows for _, _, shows in ROWS)]
    assert unlisted == []
