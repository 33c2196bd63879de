"""Run test suites of Tcl's core with `socket2` in place of `socket`, and compare the outcomes.

`Suites` runs files of Tcl's own tests, each in a process of its own: once with the core's sockets,
which says what is to be expected on this machine, and once with each engine. Most of their time
the tests wait, so a few of them run at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import tkinter
import tomllib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, tclsh_of

import tclchan

CORE = ROOT / "tcl_tests" / "core"
AT_ONCE = 6
# Its tests give a port up to take it again: another run at the same time may take it first.
ALONE = ("socket.test",)
TIMEOUT_S = 150.0
# Debian 13's mirrors may have a later 9.0 in sources only, with tests for what ends the process in
# the Tcl 9.0.1 that is there to run.
FATAL = {"9.0": ("io-13.13", "io-13.14", "io-bug-73bb*")}

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


class Run(NamedTuple):
    """One run of a file; without an engine, that with the core's sockets.

    The host is a tclsh, a tclsh whose event loop runs on the driver (ring), or Python.
    """

    tcl: str
    host: str
    file: str
    engine: str | None

    @property
    def core(self) -> Run:
        """The run that says what is to be expected of this one."""
        host = "tclsh" if self.host == "ring" else self.host
        return self._replace(host=host, engine=None)


@dataclass
class Outcome:
    """What came of a run: for each test how it ended, and the result of those that failed."""

    code: int
    output: str
    ends: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    # How a test ended, or what a test that failed says of its result; or the sum of it all.
    _LINE = re.compile(
        r"^\+\+\+\+ (?P<name>\S+) (?P<end>PASSED|SKIPPED)"
        r"|^==== (?P<failed>\S+) .*FAILED\n(?P<report>(?:.*\n)*?)==== (?P=failed) FAILED$"
        r"|^\S+:\tTotal\t\d+\t(?P<totals>Passed\t\d+\tSkipped\t\d+\tFailed\t\d+)$",
        re.MULTILINE,
    )

    def __post_init__(self) -> None:
        totals = ""
        for match in self._LINE.finditer(self.output):
            if match["totals"]:
                totals = match["totals"]
                continue
            name = original = match["name"] or match["failed"]
            number = 1
            while name in self.ends:  # Some files use a name twice.
                number += 1
                name = f"{original} ({number})"
            self.ends[name] = match["end"].lower() if match["end"] else FAILED
            if match["failed"]:
                result = re.search(
                    r"^---- Result was:\n(.*?)\n---- Result should", match["report"], re.M | re.S
                )
                self.results[name] = result[1] if result else match["report"]
        # A test that `-skip` has named is counted, and tells nothing.
        ends = list(self.ends.values())
        counted = f"Passed\t{ends.count(PASSED)}\tSkipped\t\\d+\tFailed\t{ends.count(FAILED)}"
        self.complete = self.code == 0 and re.fullmatch(counted, totals) is not None


@dataclass(frozen=True)
class Difference:
    """An entry of differences.toml."""

    tcl: list[str]
    file: str
    tests: list[str]
    result: str
    reason: str
    at_times: bool = False

    def explains(self, result: str) -> bool:
        """Whether *result* is the one that a test is listed with."""
        parts = (re.escape(part) for part in self.result.split("*"))
        return re.fullmatch(".*".join(parts), result, re.DOTALL) is not None


def all_differences() -> list[Difference]:
    """Return the entries of differences.toml."""
    with (CORE / "differences.toml").open("rb") as stream:
        return [Difference(**entry) for entry in tomllib.load(stream)["difference"]]


def differences(tcl: str, file: str) -> dict[str, Difference]:
    """Return the entries for a file, by the names of the tests."""
    entries = [entry for entry in all_differences() if tcl in entry.tcl and entry.file == file]
    return {test: entry for entry in entries for test in entry.tests}


def complaints(core: Outcome, ours: Outcome, listed: dict[str, Difference]) -> list[str]:
    """Compare a run with the core's; return what is not as it should be."""
    found = []
    for name, end in core.ends.items():
        if end != PASSED:
            continue
        now = ours.ends.get(name, "missing")
        entry = listed.get(name)
        if now == PASSED and entry and not entry.at_times:
            found.append(f"{name} passes, and is listed as a difference")
        elif now == FAILED and not (entry and entry.explains(ours.results[name])):
            found.append(f"{name} failed, with the result: {ours.results[name]}")
        elif now not in (PASSED, FAILED):
            found.append(f"{name} is {now}, and passed with the core's socket")
    found += [f"{name} is listed, and there is no such test" for name in listed.keys() - core.ends]
    return found


@cache
def fetch(name: str) -> subprocess.CompletedProcess[str]:
    """Run tools/fetch.py, once for each name."""
    command = [sys.executable, str(ROOT / "tools/fetch.py"), name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fetched(name: str) -> Path:
    """Return the directory with what tools/fetch.py gets by that name, or skip the test."""
    done = fetch(name)
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


class Suites:
    """The runs of a session: as many as are wanted are started early, a few at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._places = threading.Semaphore(AT_ONCE)
        self._taking = threading.Lock()
        self._futures: dict[Run, Future[Outcome]] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()

    def start(self, runs: Iterable[Run]) -> None:
        """Start runs that were not started before."""
        for run in runs:
            if run not in self._futures:
                self._futures[run] = self._pool.submit(self._in_turn, run)

    def outcome(self, run: Run) -> Outcome:
        """Wait for a run to end."""
        self.start([run])
        return self._futures[run].result()

    def close(self) -> None:
        """End what still runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in tuple(self._processes):
            kill(process)
        self._pool.shutdown()

    def _in_turn(self, run: Run) -> Outcome:
        places = AT_ONCE if run.file in ALONE else 1
        with self._taking:
            for _ in range(places):
                self._places.acquire()
        try:
            return self._run(run)
        finally:
            self._places.release(places)

    def _run(self, run: Run) -> Outcome:
        directory = self.directory / "-".join(filter(None, run)).replace(".test", "")
        (directory / "tmp").mkdir(parents=True)
        tests = linked_tests(run, directory / "tests")
        command = [shell(run, directory), str(tests / run.file)]
        options = ["-verbose", "pass skip start error", "-tmpdir", str(directory / "tmp")]
        options += ["-skip", " ".join(FATAL.get(run.tcl, ()))]
        output = directory / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *options],
                cwd=directory / "tmp",
                env=environment(run),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes.add(process)
            late = ""
            try:
                process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                late = f"\nit did not end within {TIMEOUT_S:.0f} s\n"
            # The session has the processes that its tests have left behind, too.
            kill(process)
            code = process.wait()
            self._processes.discard(process)
        return Outcome(code, output.read_text(errors="replace") + late)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the session that a process was started in."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def linked_tests(run: Run, directory: Path) -> Path:
    """Make a directory with Tcl's tests for one run, which may write there.

    Their only edit: 8.6's http.test takes a fixed port, as the next run does at the same time.
    """
    directory.mkdir()
    for path in (fetched(f"tcl{run.tcl}-source") / "tests").iterdir():
        (directory / path.name).symlink_to(path)
    file = directory / run.file
    text = file.read_text()
    if "\nset port 8010\n" in text:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        file.unlink()
        file.write_text(text.replace("\nset port 8010\n", f"\nset port {port}\n"))
    return directory


def shell(run: Run, directory: Path) -> str:
    """Return the program that takes the part of tclsh: tcltest's ``interpreter``."""
    if run.host != "python":
        return tclsh(run.tcl)
    script = directory / "shell"
    words = [sys.executable, "-P", "-m", "tclchan", "run"]
    words += ["--replace-socket"] if run.engine else ["--notifier", "tcl"]
    script.write_text(
        "#!/bin/sh\n"
        "TCLCHAN_SHELL=$0 TCLCHAN_ATTACHED=1\n"
        "export TCLCHAN_SHELL TCLCHAN_ATTACHED\n"
        f'exec {shlex.join([*words, str(CORE / "shell.tcl")])} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def environment(run: Run) -> dict[str, str]:
    """Return the environment of a run: it makes every interpreter begin with core/init.tcl."""
    own = {
        "TCL_LIBRARY": str(CORE),
        "TCLCHAN_TCL_LIBRARY": tcl_library(run.tcl, run.host),
        "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
        "TCLCHAN_TEST_CORE": "0" if run.engine else "1",
    }
    if run.engine:
        own["TCLCHAN_ENGINE"] = run.engine
    if run.host == "ring":
        own["TCLCHAN_NOTIFIER"] = "ring"
    inherited = {name: os.environ[name] for name in os.environ if name != "TCLCHAN_NOTIFIER"}
    return {**inherited, **own}


def tclsh(tcl: str) -> str:
    """Return the path of a tclsh, or skip the test."""
    found = tclsh_of(tcl)
    if found is None:
        pytest.skip(f"no tclsh{tcl}: it is not installed, and could not be fetched")
    return found.path


@cache
def tcl_library(tcl: str, host: str) -> str:
    """Return the directory with the library of a host's Tcl."""
    if host == "python":
        return str(tkinter.Tcl().eval("info library"))
    command = [tclsh(tcl)]
    script = "puts [info library]"
    return subprocess.run(
        command, input=script, capture_output=True, text=True, check=True
    ).stdout.strip()
