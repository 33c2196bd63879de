"""engines: what this machine has, and why not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENGINES, ROOT

import tclchan
from tclchan import _engines


def test_best_first() -> None:
    assert [info.name for info in ENGINES] == ["io_uring", "epoll"]
    assert tclchan.engines() == ENGINES


def test_a_reason_stands_exactly_with_what_is_not_usable() -> None:
    for info in ENGINES:
        assert info.usable == (info.reason == "")


def test_tcl_says_the_same(interp: tclchan.Interp) -> None:
    for info in ENGINES:
        told = interp.eval(f"lsearch -inline -index 1 [iocp::engines] {info.name}")
        assert interp.call("dict", "get", told, "usable") == str(int(info.usable))
        assert interp.call("dict", "get", told, "reason") == info.reason


@pytest.mark.parametrize(
    ("files", "release", "remedy"),
    [
        ({"/proc/sys/kernel/io_uring_disabled": "2"}, "6.6.1", "sysctl -w"),
        ({"/proc/sys/kernel/io_uring_disabled": "0"}, "5.10.0-8-amd64", "too old"),
        ({"/proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, "6.1.0-13-amd64", "seccomp="),
        ({}, "6.1.0-13-amd64", "use epoll"),
    ],
)
def test_remedies(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], release: str, remedy: str
) -> None:
    monkeypatch.setattr(_engines, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr("platform.release", lambda: release)
    assert remedy in tclchan.EngineInfo("io_uring", False, "Operation not permitted").remedy
    assert tclchan.EngineInfo("io_uring", True, "").remedy == ""
    assert tclchan.EngineInfo("epoll", False, "Too many open files").remedy == ""


def without_io_uring(
    cwd: Path, engine: str, *args: str, script: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command ``tclchan`` in a process whose seccomp filter forbids io_uring."""
    noring = str(ROOT / "tcl_tests/noring.py")
    return subprocess.run(
        [sys.executable, noring, sys.executable, "-P", "-m", "tclchan", *args],
        input=script,
        cwd=cwd,
        env={**os.environ, "TCLCHAN_ENGINE": engine},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_where_io_uring_is_forbidden_epoll_is_chosen(tmp_path: Path) -> None:
    done = without_io_uring(tmp_path, "", "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\n  io_uring: +not usable: .*not permitted", done.stdout)
    assert re.search(r"\n +what to do: a seccomp filter is in force", done.stdout)
    assert re.search(r"\n  epoll: +usable, chosen\n", done.stdout)
    script = "puts [iocp::engine]; puts [dict get [lindex [iocp::engines] 0] reason]"
    done = without_io_uring(tmp_path, "auto", "run", "-", script=script)
    assert done.stdout.startswith("epoll\n")
    assert "not permitted" in done.stdout


def test_where_io_uring_is_forbidden_it_cannot_be_asked_for(tmp_path: Path) -> None:
    message = 'engine "io_uring" cannot be used here: '
    done = without_io_uring(tmp_path, "io_uring", "run", "-", script="puts no")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tclchan: error: {message}")
    done = without_io_uring(tmp_path, "", "run", "--engine", "io_uring", "-", script="puts no")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tclchan: error: {message}")
    done = without_io_uring(tmp_path, "io_uring", "doctor")
    assert done.returncode == 1
    assert f"problem: {message}" in done.stdout
