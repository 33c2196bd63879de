"""The rules of the house, as far as a program can check them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

OURS = ("native", "tclchan", "py_tests", "tcl_tests", "examples", "tools", ".ci")
TEXT = {".c", ".h", ".py", ".pyi", ".in", ".tcl", ".test", ".sh", ".md", ".toml", ".build", ".txt",
        ".html", ".css", ".js", ".lua", ".tml", ".options"}  # fmt: skip

# What Windows imports, with what there is on Windows.
MYPY_FOR_WINDOWS = ["mypy", "--platform=win32", "--cache-dir=build/mypy_cache_windows"]
MYPY_FOR_WINDOWS += ["-m", "tclchan", "-m", "tclchan.__main__"]


def files() -> Iterator[Path]:
    for path in ROOT.iterdir():
        if path.is_file():
            yield path
    for name in OURS:
        yield from (p for p in (ROOT / name).rglob("*") if p.is_file() and p.suffix != ".pyc")


def texts() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), path.read_text())
        for path in files()
        if path.suffix in TEXT or path.name in ("Makefile", "LICENSE", ".gitignore", "run")
    ]


def offences(pattern: str, names: str = "", flags: int = 0) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        if re.match(names, name) and name != "py_tests/test_codebase.py"
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line, flags)
    ]


def test_no_line_is_wider_than_100() -> None:
    wide = [
        f"{name}:{number}"
        for name, text in texts()
        if not name.endswith((".html", "LICENSE"))
        for number, line in enumerate(text.splitlines(), 1)
        if len(line.expandtabs(8)) > 100
        # Tables, and commands to be copied.
        and not (name.endswith(".md") and line.startswith(("|", "    ")))
    ]
    assert wide == []


def test_no_trailing_space_and_a_newline_at_the_end() -> None:
    assert offences(r"[ \t]$") == []
    assert [name for name, text in texts() if text and not text.endswith("\n")] == []


def test_no_file_of_the_driver_is_longer_than_1000_lines() -> None:
    long = {
        n: t.count("\n") for n, t in texts() if n.startswith("native/") and t.count("\n") > 1000
    }
    assert long == {}


def test_nothing_is_left_to_do() -> None:
    assert offences(r"\b(TODO|FIXME|XXX|TBD)\b") == []
    assert offences(r"^\s*#\s*if\s+0\b", "native/") == []


def test_the_project_speaks_of_itself_alone() -> None:
    assert offences(r"[\s\"'](/home|/root)/\w") == []
    assert offences(r"\b(issue|ticket|bug|PR|fixes|closes) #?\d+", flags=re.IGNORECASE) == []


def test_engines_are_known_only_below_the_seam() -> None:
    above = r"native/(?!engine/|iocpsock\.h)\w+\.[ch]$"
    assert offences(r"\b(io_uring|uring|epoll|kqueue)\b", above, re.IGNORECASE) == []
    assert (
        offences(
            r"#\s*(if|ifdef|ifndef|elif)\b.*(_WIN32|__linux__|__APPLE__|IOCP_HAVE_)",
            r"native/(?!engine/|iocpPort\.h|iocpsock\.h)\w+\.[ch]$",
        )
        == []
    )


def test_every_source_of_the_driver_is_built() -> None:
    build = (ROOT / "native/meson.build").read_text()
    for path in (ROOT / "native").rglob("*.c"):
        name = str(path.relative_to(ROOT / "native"))
        assert f"'{name}'" in build or name.startswith("ffi/"), name


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], MYPY_FOR_WINDOWS],
    ids=["ruff", "format", "mypy", "mypy for Windows"],
)
def test_checkers(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
