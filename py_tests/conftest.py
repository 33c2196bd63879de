"""Fixtures of all tests.

A test that asks for `engine`, or for an `interp` on it, runs once for each engine that this machine
has. All interpreters of a thread share an engine, until the last of them is gone: a test leaves
none behind. An engine that cannot be used is a skip with the reason, and a failure if
TCLCHAN_REQUIRE_ENGINES (names, separated by commas) has it. So is what the tests need from
elsewhere (Tcl 9, Tcl's sources): a skip, and with TCLCHAN_REQUIRE_SUITES=1 a failure.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

import tclchan
from tclchan import _build_config

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = set(filter(None, os.environ.get("TCLCHAN_REQUIRE_ENGINES", "").split(",")))
REQUIRE_SUITES = os.environ.get("TCLCHAN_REQUIRE_SUITES", "") not in ("", "0")

WINDOWS = sys.platform == "win32"

# Under Wine, where threads start and end, the event loop of a thread that has one fails now and
# then: Tcl_WaitForEvent finds its event gone. It is so without the driver, too.
posix_threads = pytest.mark.posix("event loops in threads fail under Wine")

# Files of tests that have no meaning on Windows, or whose programs there are none of there. Single
# tests have the mark "posix", which tells the reason, too.
NOT_ON_WINDOWS = {
    "it is about the sources, which are the same everywhere": (
        "test_bug_list.py",
        "test_codebase.py",
        "test_fetch.py",
        "test_make.py",
        "test_packaging.py",
        "test_sanitize.py",
    ),
    "it is about processes that fork, share sockets or change their rights": (
        "test_cluster.py",
        "test_fork.py",
        "test_privileges.py",
        "test_systemd.py",
        "test_workers.py",
    ),
    "it is about host mode, which is for POSIX": ("test_notifier.py",),
    "tclchan bench measures with what Linux tells of processes": ("test_bench.py",),
    "the programs of the test are Linux's": (
        "test_browser.py",
        "test_core_suites.py",
        "test_grafana.py",
        "test_page.py",
        "test_soak.py",
        "test_synflood.py",
        "test_tcl_suite.py",
        "test_windows.py",
    ),
    "it looks into /proc, and ends its servers with signals": (
        "test_examples.py",
        "test_hostile.py",
        "test_httpd.py",
        "test_httpd_downloads.py",
        "test_httpd_requests.py",
        "test_logs.py",
        "test_many_connections.py",
        "test_metrics.py",
        "test_tclhttpd.py",
    ),
}

# "At once" is within two seconds; more is for a machine that has other things to do, as one that
# emulates another has.
BUSY = WINDOWS or os.getloadavg()[0] >= len(os.sched_getaffinity(0))
AT_ONCE_S = 4.5 if BUSY else 2.0

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_report_header() -> list[str]:
    build = {k: v for k, v in vars(_build_config).items() if k.isupper()}
    found = [f"{e.name} {'usable' if e.usable else 'not usable: ' + e.reason}" for e in ENGINES]
    return [f"tclchan: {build}", f"engines: {'; '.join(found)}"]


def lacking(reason: str) -> NoReturn:
    """Skip the test for want of what is not part of the project; or fail it, if that is asked."""
    if REQUIRE_SUITES:
        pytest.fail(f"it is required (TCLCHAN_REQUIRE_SUITES): {reason}")
    pytest.skip(reason)


class NotHere(pytest.Module):
    """A file of tests that is not even imported."""

    reason = ""

    def collect(self) -> NoReturn:
        pytest.skip(f"not on Windows: {self.reason}", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    for reason, names in NOT_ON_WINDOWS.items():
        if WINDOWS and module_path.name in names:
            module: NotHere = NotHere.from_parent(parent, path=module_path)
            module.reason = reason
            return module
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("posix"):
        if WINDOWS:
            pytest.skip(f"not on Windows: {mark.args[0]}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tcltest skipped in a file that passed is no skip of pytest's: count it here."""
    counts = {"passed": 0, "skipped": 0}
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name in counts and getattr(report, "when", "") == "call":
                counts[name] += int(value)
    if counts["passed"]:
        terminalreporter.write_line(
            f"tests in Tcl, over all engines: {counts['passed']} passed, "
            f"{counts['skipped']} skipped for the reasons that the files print"
        )


ENGINES = tclchan.engines()
if missing := REQUIRED - {e.name for e in ENGINES}:
    raise pytest.UsageError(f"TCLCHAN_REQUIRE_ENGINES: no such engine: {', '.join(missing)}")


@pytest.fixture(params=ENGINES, ids=lambda info: info.name)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    info: tclchan.EngineInfo = request.param
    if not info.usable:
        if info.name in REQUIRED:
            pytest.fail(f"{info.name} is required: {info.reason}")
        pytest.skip(f"{info.name}: {info.reason}")
    yield info.name
    # What a cycle of references holds would keep the engine for the next test in this thread.
    gc.collect()


class Tclsh(NamedTuple):
    """A Tcl that has nothing to do with Python."""

    version: str
    path: str


# Where the set-up puts what the system does not have.
TCLS = ("windows/tcl", "windows/tcl9") if WINDOWS else ("tcl9",)


def tclsh_of(version: str) -> Tclsh | None:
    """Find a tclsh, where the system has it or where the set-up has put it."""
    where = os.pathsep.join(
        [*(str(ROOT / "build" / directory / "bin") for directory in TCLS), os.environ["PATH"]]
    )
    # Windows' have no dot in their names.
    names = [f"tclsh{version}", f"tclsh{version.replace('.', '')}"]
    names += ["tclsh"] * (version == "8.6")
    found = (shutil.which(name, path=where) for name in names)
    return next((Tclsh(version, path) for path in found if path is not None), None)


@pytest.fixture(params=["8.6", "9.0"])
def tclsh(request: pytest.FixtureRequest) -> Tclsh:
    """Each Tcl that there is a driver for."""
    version: str = request.param
    tclsh = tclsh_of(version)
    if tclsh is None and version == "9.0":
        lacking("no tclsh9.0: it is not installed, and could not be fetched")
    assert tclsh is not None, "no tclsh: install the package tcl"
    built = _build_config.TCL.split(", ")
    assert any(tcl.startswith(version) for tcl in built), f"the package is built for Tcl {built}"
    return tclsh


@pytest.fixture
def interp(engine: str) -> Iterator[tclchan.Interp]:
    with tclchan.Interp(engine=engine) as interp:
        yield interp


def send_signal(number: int) -> None:
    """Send this process a signal. On Windows, only a thread of its own can do that."""
    if WINDOWS:
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def descriptors() -> int:
    """How many this process has open; 0 where nobody can tell."""
    return 0 if WINDOWS else len(os.listdir("/proc/self/fd"))


def in_thread(body: Callable[[], Any]) -> Any:
    """Call *body* in a new thread; return or raise what it does."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(body).result()


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Run Python code, or with ``-m`` a module, in a process of its own outside the sources."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *(args if args[0].startswith("-") else ("-c", *args))],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def cli(run_python: Run) -> Run:
    """Run the command ``tclchan``."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_python("-m", "tclchan", *args, **options)

    return run
