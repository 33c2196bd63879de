"""The list of known bugs is complete, and what it names exists."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

TCL_TESTS = ROOT / "tcl_tests"
RANGES = {"U": 3, "I": 45, "L": 19, "N": 23, "M": 8}
IDS = [f"{group}{number}" for group, last in RANGES.items() for number in range(1, last + 1)]
IDS += [f"U1{letter}" for letter in "abcde"]

ROW = re.compile(r"^\| (\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = ROW.findall((TCL_TESTS / "BUGS.md").read_text().split("|---|---|---|")[1])
CONSTRUCTION = re.compile(r"by construction: `(\w+)` in `([\w./]+)`, \w.+")


def names_of_tests() -> re.Pattern[str]:
    """What matches the name of each test of the .test files; variables stand for anything."""
    names = [
        re.sub(r"\\\$\w+", r"[\\w.]+", re.escape(name).replace(r"\$\{", r"\$"))
        for path in TCL_TESTS.glob("*.test")
        for name in re.findall(r"^\s*test (\S+) ", path.read_text(), re.MULTILINE)
    ]
    assert len(names) > 500
    return re.compile("|".join(names))


TESTS = names_of_tests()


def exists(name: str) -> bool:
    if name.startswith("core:"):  # test_core_suites.py runs them
        return re.fullmatch(r"core:\w+-\d[\w.]*", name) is not None
    if name.startswith("py:"):
        path, _, function = name.removeprefix("py:").partition("::")
        text = (ROOT / "py_tests" / path).read_text()
        return f"def {function or 'test_'}" in text
    return TESTS.fullmatch(name) is not None


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
