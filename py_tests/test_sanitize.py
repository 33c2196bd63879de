"""The Tcl tests, with a driver built with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ENGINES, ROOT

LOGS = ROOT / "build/sanitize/logs"
LIMIT_SECONDS = 2300
TAIL = 5000
# What a log says of a test that failed, and of what a sanitizer has found.
VERDICT = re.compile(r"^(?:==== \S+ .*FAILED|SUMMARY: .*)$", re.MULTILINE)


def run_to_file(command: list[str], output: Path, limit: float) -> int | None:
    """Run *command* in a session of its own; its exit code, or None if it had to be ended.

    Whatever ends the wait, nothing that it started runs on, and all that it wrote is in the file.
    """
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def tail(file: Path) -> str:
    return file.read_bytes()[-TAIL:].decode(errors="replace")


def complaints(logs: Path) -> str:
    """What the logs say of runs that did not get to their end, or not without a failure."""
    return "".join(
        "\n".join([f"=== {log.name}", *VERDICT.findall(text), tail(log)])
        for log in sorted(logs.glob("*.log"))
        if "\tFailed\t0\n" not in (text := log.read_text(errors="replace"))
        or "Sanitizer" in text
        or "Test files exiting with errors" in text
    )


@pytest.mark.timeout(LIMIT_SECONDS + 100)
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    output = tmp_path / "output"
    code = run_to_file([str(ROOT / "tools/sanitize.sh")], output, LIMIT_SECONDS)
    assert code == 0, f"exit code {code}, where None is not within {LIMIT_SECONDS} s\n" + (
        complaints(LOGS) or tail(output)
    )
    usable = [info.name for info in ENGINES if info.usable] + ["sim"]
    tcl9 = " and sim with Tcl 9.0" if (ROOT / "build/tcl9").exists() else ""
    assert tail(output).endswith(f"sanitizers: nothing found on {' '.join(usable)}{tcl9}\n")


def test_a_run_that_hangs_leaves_its_output_and_no_process(tmp_path: Path) -> None:
    output = tmp_path / "output"
    script = "echo said; sleep 1000 & echo $!; wait"
    assert run_to_file(["sh", "-c", script], output, 0.5) is None
    said, child = tail(output).split()
    assert said == "said"
    end = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError):
        while ") Z " not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < end
            time.sleep(0.01)


def test_logs_that_complain_are_found(tmp_path: Path) -> None:
    total = "all.tcl:\tTotal\t2\tPassed\t2\tSkipped\t0\tFailed\t{}\nSourced 1 Test Files.\n"
    (tmp_path / "good.log").write_text(total.format(0))
    failed = "==== tcp-1.1 it connects FAILED\n" + 10_000 * "more\n" + total.format(1)
    (tmp_path / "failed.log").write_text(failed)
    (tmp_path / "cut.log").write_text("tcp.test\n")
    (tmp_path / "found.log").write_text("==1==ERROR: AddressSanitizer: ...\n" + total.format(0))
    error = "Test files exiting with errors:  \n\n  tcp.test\n"
    (tmp_path / "error.log").write_text(total.format(0) + error)
    told = complaints(tmp_path)
    assert [line[4:] for line in told.splitlines() if line.startswith("=== ")] == [
        "cut.log",
        "error.log",
        "failed.log",
        "found.log",
    ]
    assert "==== tcp-1.1 it connects FAILED\n" in told
    assert len(told) < 2 * TAIL
