"""engines: what this machine has, and why not."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ENGINES, ROOT, WINDOWS, Run

import tclchan
from tclchan import _build_config, _engines


def test_best_first() -> None:
    best = ["iocp"] if WINDOWS else ["io_uring", "epoll"]
    names = [info.name for info in ENGINES]
    assert names == best + ["sim"] * _build_config.TESTING
    assert tclchan.engines() == ENGINES


def test_a_reason_stands_exactly_with_what_is_not_usable() -> None:
    for info in ENGINES:
        assert info.usable == (info.reason == "")


def test_tcl_says_the_same(interp: tclchan.Interp) -> None:
    for info in ENGINES:
        told = interp.eval(f"lsearch -inline -index 1 [iocp::engines] {info.name}")
        assert interp.call("dict", "get", told, "usable") == str(int(info.usable))
        assert interp.call("dict", "get", told, "reason") == info.reason


SECCOMP = {"/proc/self/status": "Name:\tx\nSeccomp:\t2\n"}
NO_FILES: dict[str, str] = {}


@pytest.mark.parametrize(
    ("files", "release", "number", "remedy"),
    [
        ({"/proc/sys/kernel/io_uring_disabled": "2"}, "6.6.1", errno.EPERM, "sysctl -w"),
        ({"/proc/sys/kernel/io_uring_disabled": "0"}, "5.10.0-8-amd64", errno.EINVAL, "too old"),
        (SECCOMP, "6.1.0-13-amd64", errno.EPERM, "seccomp="),
        (NO_FILES, "6.1.0-13-amd64", errno.EPERM, "use epoll"),
        (SECCOMP, "6.1.0-13-amd64", errno.ENOMEM, "RLIMIT_MEMLOCK"),
        (SECCOMP, "6.1.0-13-amd64", errno.EMFILE, "ulimit -n"),
        (SECCOMP, "6.1.0-13-amd64", errno.ENFILE, "fs.file-max"),
        (NO_FILES, "6.1.0-13-amd64", errno.ENOSYS, "CONFIG_IO_URING"),
        (NO_FILES, "4.19.0", errno.ENOSYS, "too old"),
    ],
)
def test_remedies(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], release: str, number: int, remedy: str
) -> None:
    monkeypatch.setattr(_engines, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr("platform.release", lambda: release)
    reason = f"as the driver says it ({os.strerror(number)}), and more"
    assert remedy in tclchan.EngineInfo("io_uring", False, reason).remedy
    assert tclchan.EngineInfo("io_uring", True, "").remedy == ""


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOMEM, "no memory"),
        (errno.EPERM, "seccomp"),
    ],
)
def test_remedies_of_epoll(number: int, remedy: str) -> None:
    assert remedy in tclchan.EngineInfo("epoll", False, f"call: {os.strerror(number)}").remedy
    assert tclchan.EngineInfo("epoll", True, "").remedy == ""


@pytest.mark.posix("there are no such limits")
def test_the_remedy_for_no_descriptors(run_python: Run) -> None:
    """With the driver's own reason: both engines need some."""
    code = """
        import contextlib, os, resource, tclchan
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with contextlib.suppress(OSError):
            while True:
                os.open("/dev/null", 0)
        for info in tclchan.engines():
            print(info.name, info.usable, info.remedy)
    """
    done = run_python(textwrap.dedent(code))
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["io_uring", "epoll"], done.stderr
    for line, info in zip(lines, ENGINES, strict=True):
        assert " False " in line
        assert "ulimit -n" in line or not info.usable


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


@pytest.mark.posix("it has another engine")
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


@pytest.mark.posix("it has another engine")
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
