"""Run test suites of Tcl's core on the driver, and compare the outcomes.

`Suites` runs files of Tcl's own tests, each in a process of its own: once with the core's sockets
and the core's event loop, which says what is to be expected on this machine, and once with each
engine. Most of their time the tests wait, so many of them run at once, each in a network of its
own where the system allows that.
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tkinter
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT, lacking, tclsh_of
from tclfiles import own_network

import tclchan

CORE = ROOT / "tcl_tests" / "core"
AT_ONCE = 12
# Where runs share a network: its tests give a port up to take it again, and another run at the same
# time may take it first.
ALONE = ("socket.test",)
TIMEOUT_S = 300.0
TURNS = 5
# Debian 13's mirrors may have a later 9.0 in sources only, with tests for what ends the process in
# the Tcl 9.0.1 that is there to run.
FATAL = {"9.0": ("io-13.13", "io-13.14", "io-bug-73bb*")}
# Their tests ask for commands in C that Tcl's sources have beside them: they are built. ioCmd.test
# and ioTrans.test do without: with these commands they end threads whose channels others use, which
# Tcl itself does not survive in one run of ten.
COMMANDED = (
    "async.test",
    "chanio.test",
    "event.test",
    "io.test",
    "notify.test",
    "thread.test",
    "unixForkEvent.test",
)
# Here the tests that are called not portable are those of the event loop.
UNPORTABLE = ("event.test", "unixForkEvent.test")

PIPELINE = "httpPipeline.test"
PIPELINE_HOST = "test-tcl-http.kerlin.org"
PIPELINE_SCRIPTS = 25
PIPELINE_DELAYS = "abcdefg"
# The commands' sources, with the headers that they ask for.
TEST_SOURCES = ("unix/tclUnixTest.c", "generic/tcl*Test*.c", "generic/*.h", "unix/*.h")
TEST_MACROS = (
    "-DUSE_TCL_STUBS",
    "-DTCL_THREADS=1",
    "-DMODULE_SCOPE=extern",
    "-DHAVE_UNISTD_H",
    "-DHAVE_SYS_TIME_H",
    "-DHAVE_SYS_PARAM_H",
)

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


class Run(NamedTuple):
    """One run of a file; without an engine, that with the core's sockets and event loop.

    The host is a program, tclsh or python. Its event loop is Tcl's; or with -ring the driver's;
    or with -notifier the driver's, while sockets are the core's.
    """

    tcl: str
    host: str
    file: str
    engine: str | None

    @property
    def program(self) -> str:
        """The program that hosts Tcl."""
        return self.host.partition("-")[0]

    @property
    def loop(self) -> str:
        """What follows the program in the host's name."""
        return self.host.partition("-")[2]

    @property
    def core(self) -> Run:
        """The run that says what is to be expected of this one."""
        return self._replace(host=self.program, engine=None)


@dataclass
class Outcome:
    """What came of a run: for each test how it ended, and the result of those that failed."""

    code: int
    output: str
    ends: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    # For each test that was skipped, the constraints that do not hold.
    reasons: dict[str, str] = field(default_factory=dict)

    # How a test ended, or what a test that failed says of its result; or the sum of it all.
    _LINE = re.compile(
        r"^\+\+\+\+ (?P<name>\S+) (?P<end>PASSED|SKIPPED)(?:: (?P<why>.*))?"
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
            self.reasons.update({name: match["why"]} if match["why"] else {})
            if match["failed"]:
                result = re.search(
                    r"^---- Result was:\n(.*?)\n---- Result should", match["report"], re.M | re.S
                )
                self.results[name] = result[1] if result else match["report"]
        # A test that `-skip` has named is counted, and tells nothing.
        ends = list(self.ends.values())
        counted = f"Passed\t{ends.count(PASSED)}\tSkipped\t\\d+\tFailed\t{ends.count(FAILED)}"
        counts = re.fullmatch(counted, totals) is not None
        self.complete = self.code == 0 and counts
        # The exit of a process frees Tcl's locks. A thread that still runs, as the servers of
        # http.test do, may hold one just then: once in some hundred runs.
        self.crashed_at_exit = self.code == -signal.SIGSEGV and counts


@dataclass(frozen=True)
class Difference:
    """An entry of differences.toml."""

    tcl: list[str]
    file: str
    tests: list[str]
    result: str
    reason: str
    of: str = "socket"
    at_times: bool = False

    def concerns(self, run: Run) -> bool:
        """Whether a run has what makes the difference."""
        has = {"socket": run.loop != "notifier", "loop": run.loop != "", "any": True}
        return run.tcl in self.tcl and run.file == self.file and has[self.of]

    def explains(self, result: str) -> bool:
        """Whether *result* is the one that the tests are listed with."""
        parts = (re.escape(part) for part in self.result.split("*"))
        return re.fullmatch(".*".join(parts), result, re.DOTALL) is not None


def all_differences() -> list[Difference]:
    """Return the entries of differences.toml."""
    with (CORE / "differences.toml").open("rb") as stream:
        return [Difference(**entry) for entry in tomllib.load(stream)["difference"]]


def differences(run: Run, names: Iterable[str]) -> dict[str, Difference]:
    """Return the entries for a run by the names of the tests, of which it has *names*."""
    # What is said of one test counts more than what is said of many.
    entries = sorted(all_differences(), key=lambda entry: not entry.at_times)
    return {
        name: entry
        for entry in entries
        if entry.concerns(run)
        for test in entry.tests
        for name in (fnmatch.filter(names, test) or [test])
    }


def complaints(core: Outcome, ours: Outcome, listed: dict[str, Difference]) -> dict[str, str]:
    """Compare a run with the core's; return by the tests' names what is not as it should be."""
    found = {}
    for name, end in core.ends.items():
        if end != PASSED:
            continue
        now = ours.ends.get(name, "missing")
        entry = listed.get(name)
        if now == PASSED and entry and not entry.at_times:
            found[name] = "passes, and is listed as a difference"
        elif now == FAILED and not (entry and entry.explains(ours.results[name])):
            found[name] = f"failed, with the result: {ours.results[name]}"
        elif now not in (PASSED, FAILED):
            found[name] = f"is {now}, and passed with the core's socket"
    gone = listed.keys() - core.ends
    return {**found, **dict.fromkeys(gone, "is listed, and there is no such test")}


def unlucky(ours: Outcome, listed: dict[str, Difference]) -> set[str]:
    """Return the tests that failed as they are known to do at times."""
    return {
        name
        for name, entry in listed.items()
        if entry.at_times and ours.ends.get(name) == FAILED and entry.explains(ours.results[name])
    }


@dataclass(frozen=True)
class Baseline:
    """baseline.toml: what comes of the tests with the core's sockets and event loop."""

    # Constraints: those that hold nowhere here, and those that some machines fulfil.
    never: dict[str, str]
    machine: dict[str, str]
    # By version of the sources and file: the tests that pass, or would on a machine with it all.
    tests: dict[str, dict[str, int]]
    failures: list[Difference]

    @classmethod
    def read(cls) -> Baseline:
        """Return what the file has."""
        with (CORE / "baseline.toml").open("rb") as stream:
            content = tomllib.load(stream)
        failures = [Difference(result="*", **entry) for entry in content.pop("failure")]
        return cls(**content, failures=failures)

    def surprises(self, run: Run, core: Outcome) -> set[str]:
        """Return the tests that failed in a run with the core's, and are not known for it."""
        entries = [x for x in self.failures if run.tcl in x.tcl and run.file == x.file]
        known = {test for entry in entries for test in entry.tests}
        return {name for name, end in core.ends.items() if end == FAILED} - known

    def complaints(self, run: Run, core: Outcome) -> list[str]:
        """Return what is not as it should be in a run with the core's."""
        surprises = self.surprises(run, core)
        found = []
        able = 0
        for name, end in core.ends.items():
            why = core.reasons.get(name, "").split()
            lacks = [word for word in why if word in self.machine]
            able += end == PASSED or bool(lacks)
            if name in surprises:
                found.append(f"{name} failed with the core, with: {core.results[name]}")
            elif end == SKIPPED and not lacks and not any(word in self.never for word in why):
                found.append(f"{name} is skipped, and nobody says why: {core.reasons.get(name)}")
        version = source_version(run.tcl)
        due = self.tests.get(version, {}).get(run.file)
        if due is not None and able != due:
            found.append(f"{able} tests of Tcl {version} can pass with the core, not {due}")
        return found


@cache
def source_version(tcl: str) -> str:
    """Return the version of the sources of a Tcl, with its patch level."""
    header = fetched(f"tcl{tcl}-source") / "generic" / "tcl.h"
    match = re.search(r'^#\s*define\s+TCL_PATCH_LEVEL\s+"(.*)"', header.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


@cache
def fetch(name: str) -> subprocess.CompletedProcess[str]:
    """Run tools/fetch.py, once for each name."""
    command = [sys.executable, str(ROOT / "tools/fetch.py"), name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fetched(name: str) -> Path:
    """Return the directory with what tools/fetch.py gets by that name: without it, no test."""
    done = fetch(name)
    if done.returncode != 0:
        lacking(done.stderr.strip())
    return Path(done.stdout.strip())


class Suites:
    """The runs of a session: as many as are wanted are started early, many at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._places = threading.Semaphore(AT_ONCE)
        self._taking = threading.Lock()
        self._futures: dict[Run, Future[Outcome]] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._building = threading.Lock()
        self._commands: dict[str, Path] = {}
        # Several tests may have the same run of the core's repeated.
        self._turns = itertools.count()

    def start(self, runs: Iterable[Run]) -> None:
        """Start runs that were not started before."""
        for run in runs:
            if run not in self._futures:
                self._futures[run] = self._pool.submit(self._in_turn, run)

    def outcome(self, run: Run) -> Outcome:
        """Wait for a run to end."""
        self.start([run])
        return self._futures[run].result()

    def repeat(self, run: Run, names: set[str]) -> None:
        """Run tests that failed again, by themselves, and let them pass if they do so once."""
        outcome = self.outcome(run)
        for _ in range(TURNS):
            failed = sorted(name for name in names if outcome.ends[name] == FAILED)
            if not failed:
                break
            again = self._in_turn(run, failed, f"again{next(self._turns)}")
            outcome.ends.update({name: PASSED for name in failed if again.ends[name] == PASSED})

    def close(self) -> None:
        """End what still runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in tuple(self._processes):
            kill(process)
        self._pool.shutdown()

    def _in_turn(self, run: Run, only: Sequence[str] = (), turn: str = "") -> Outcome:
        # What has failed for want of time is not to want it again.
        places = AT_ONCE if only or (run.file in ALONE and not own_network()) else 1
        with self._taking:
            for _ in range(places):
                self._places.acquire()
        try:
            outcome = self._run(run, only, turn)
            if outcome.crashed_at_exit:
                outcome = self._run(run, only, f"{turn}again")
            return outcome
        finally:
            self._places.release(places)

    def _run(self, run: Run, only: Sequence[str] = (), turn: str = "") -> Outcome:
        name = "-".join(filter(None, [*run, turn])).replace(".test", "")
        directory = self.directory / name
        # Some tests write into their user's home: none is to meet another's file, or to leave one.
        home = directory / "tmp"
        home.mkdir(parents=True)
        tests, server = linked_tests(run, directory / "tests")
        command = [*own_network(), *server, shell(run, directory), str(tests / run.file)]
        output = directory / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *options(run, only), "-tmpdir", str(home)],
                cwd=home,
                env={**environment(run, self._test_commands(run)), "HOME": str(home)},
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

    def _test_commands(self, run: Run) -> Path | None:
        if run.file not in COMMANDED:
            return None
        with self._building:
            if run.tcl not in self._commands:
                directory = self.directory / f"commands-{run.tcl}"
                self._commands[run.tcl] = build_test_commands(run.tcl, directory)
            return self._commands[run.tcl]


def options(run: Run, only: Sequence[str] = ()) -> list[str]:
    """Return the options of tcltest for a run, of some tests of its file or of all."""
    words = ["-verbose", "pass skip start error", "-skip", " ".join(FATAL.get(run.tcl, ()))]
    if run.file in UNPORTABLE:
        words += ["-constraints", "nonPortable"]
    if run.file == PIPELINE:
        words += ["-constraints", "serverNeeded timeout1s duplicate"]
        only = only or pipeline_tests(run.tcl)
    return [*words, "-match", " ".join(only)] if only else words


def pipeline_tests(tcl: str) -> list[str]:
    """Choose from the 2,000 tests of httpPipeline.test, which take hours.

    A test is a header (without and with kept connections, pipelined or not), a script of requests,
    a delay between them, whether a closed connection is seen in time, and in Tcl 9 where sockets
    are opened. Each script runs pipelined, every other one on kept connections one by one as well,
    and some without those; the rest goes round.
    """
    chosen = [(4, script) for script in range(1, PIPELINE_SCRIPTS + 1)]
    chosen += [(3, script) for script in range(1, PIPELINE_SCRIPTS + 1, 2)]
    chosen += [(1, 1), (1, 8), (2, 4)]
    names = [
        f"{header}.{script}{PIPELINE_DELAYS[number % len(PIPELINE_DELAYS)]}"
        f"-{('normal', 'testEof')[number % 2]}"
        for number, (header, script) in enumerate(chosen)
    ]
    # Delays of 100, 500 and 2,000 ms.
    names += ["4.2h-testEof", "4.3i-normal", "3.1j-normal"]
    if tcl == "9.0":
        # With the core, too, tests of a connection that is seen closed late fail at times with the
        # http package of Tcl 9.0.1.
        names = [
            f"{name.replace('testEof', 'normal')}-{number % 3}" for number, name in enumerate(names)
        ]
    return [f"httpPipeline-{name}" for name in names]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the session that a process was started in."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def linked_tests(run: Run, directory: Path) -> tuple[Path, list[str]]:
    """Make a directory with Tcl's tests for one run, which may write there.

    Their only edits: 8.6's http.test takes a fixed port, as the next run does at the same time, and
    httpPipeline.test asks its authors' server. The second result is the beginning of the command
    that serves it what it asks for.
    """
    directory.mkdir()
    for path in (fetched(f"tcl{run.tcl}-source") / "tests").iterdir():
        (directory / path.name).symlink_to(path)
    file = directory / run.file
    text = file.read_text()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    edited = text.replace("\nset port 8010\n", f"\nset port {port}\n")
    edited = edited.replace(f"http://{PIPELINE_HOST}/", f"http://127.0.0.1:{port}/")
    if edited != text:
        file.unlink()
        file.write_text(edited)
    server = [sys.executable, str(CORE / "pipeserver.py"), str(port)]
    return directory, server if run.file == PIPELINE else []


def shell(run: Run, directory: Path) -> str:
    """Return the program that takes the part of tclsh: tcltest's ``interpreter``."""
    if run.program != "python":
        return tclsh(run.tcl)
    script = directory / "shell"
    words = [sys.executable, "-P", "-m", "tclchan", "run"]
    words += ["--replace-socket"] if run.engine else []
    words += ["--notifier", run.loop or "tcl"]
    script.write_text(
        "#!/bin/sh\n"
        "TCLCHAN_SHELL=$0 TCLCHAN_ATTACHED=1\n"
        "export TCLCHAN_SHELL TCLCHAN_ATTACHED\n"
        f'exec {shlex.join([*words, str(CORE / "shell.tcl")])} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def environment(run: Run, commands: Path | None = None) -> dict[str, str]:
    """Return the environment of a run: it makes every interpreter begin with core/init.tcl."""
    own = {
        "TCL_LIBRARY": str(CORE),
        "TCLCHAN_TCL_LIBRARY": tcl_library(run.tcl, run.program),
        "TCLCHAN_LIBDIR": str(tclchan.library_dir()),
        "TCLCHAN_TEST_CORE": "0" if run.engine else "1",
    }
    if run.engine:
        own["TCLCHAN_ENGINE"] = run.engine
    if run.engine and run.program == "tclsh" and run.loop:
        own["TCLCHAN_NOTIFIER"] = "ring"
    if run.loop == "notifier":
        own["TCLCHAN_TEST_SOCKET"] = "core"
    if commands is not None:
        own["TCLCHAN_TEST_COMMANDS"] = str(commands)
    inherited = {name: os.environ[name] for name in os.environ if name != "TCLCHAN_NOTIFIER"}
    return {**inherited, **own}


def tclsh(tcl: str) -> str:
    """Return the path of a tclsh: without it, no test."""
    found = tclsh_of(tcl)
    if found is None:
        lacking(f"no tclsh{tcl}: it is not installed, and could not be fetched")
    return found.path


@cache
def tcl_library(tcl: str, program: str) -> str:
    """Return the directory with the library of a program's Tcl."""
    if program == "python":
        return str(tkinter.Tcl().eval("info library"))
    return evaluate(tcl, "info library")


def evaluate(tcl: str, script: str) -> str:
    """Return the result of a script in a tclsh."""
    return subprocess.run(
        [tclsh(tcl)], input=f"puts [{script}]", capture_output=True, text=True, check=True
    ).stdout.strip()


def build_test_commands(tcl: str, directory: Path) -> Path:
    """Build the commands that Tcl's sources have for its tests; return the library.

    Sources of a later patch level ask for the TclOO of that level, of which they use nothing new.
    """
    directory.mkdir()
    source = fetched(f"tcl{tcl}-source")
    for pattern in TEST_SOURCES:
        for path in source.glob(pattern):
            shutil.copy(path, directory)
    header = directory / "tclOO.h"
    level = f'#define TCLOO_PATCHLEVEL "{evaluate(tcl, "package require TclOO")}"'
    header.write_text(
        re.sub(r"^#define TCLOO_PATCHLEVEL .*$", level, header.read_text(), flags=re.MULTILINE)
    )
    # Tcl's build makes it, and no test asks for what is in it.
    (directory / "tclUuid.h").write_text("#define TCL_VERSION_UUID unknown\n")
    paths = [str(ROOT / "build/tcl9/pkgconfig"), os.environ.get("PKG_CONFIG_PATH", "")]
    stubs = subprocess.run(
        ["pkg-config", "--variable=libdir", f"tcl{tcl}"],
        env={**os.environ, "PKG_CONFIG_PATH": ":".join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    library = directory / "libtcltest.so"
    command = ["cc", "-w", "-shared", "-fPIC", *TEST_MACROS, f"-I{directory}"]
    command += [f"-I{source / 'libtommath'}", *map(str, sorted(directory.glob("*.c")))]
    command += ["-o", str(library), f"-L{stubs}", f"-ltclstub{tcl}"]
    subprocess.run(command, check=True)
    return library
