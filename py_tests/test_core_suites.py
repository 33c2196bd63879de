"""The test suites of Tcl's core pass on the driver, as they do without.

Those of sockets have `socket2` in place of `socket`; those of the event loop and of whatever waits
in it, `socket` too, run in host mode. What fails for a good reason is listed in
tcl_tests/core/differences.toml, and nothing else; what is to be expected of the core is in
baseline.toml.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coresuites import (
    FAILED,
    PASSED,
    SKIPPED,
    Baseline,
    Difference,
    Outcome,
    Run,
    Suites,
    all_differences,
    complaints,
    differences,
    environment,
    pipeline_tests,
    shell,
    unlucky,
)

# The longest first.
SOCKET_FILES = (
    "httpPipeline.test",
    "io.test",
    "chanio.test",
    "socket.test",
    "http11.test",
    "ioCmd.test",
    "zlib.test",
    "http.test",
)
LOOP_FILES = (
    "exec.test",
    "event.test",
    "thread.test",
    "ioTrans.test",
    "timer.test",
    "async.test",
    "notify.test",
    "unixForkEvent.test",
    "unixNotfy.test",
)
# See `coresuites.Run`. Python hosts the Tcl that it is built with.
HOSTS = {
    ("8.6", "tclsh"): SOCKET_FILES,
    ("8.6", "tclsh-ring"): (*SOCKET_FILES, *LOOP_FILES),
    ("8.6", "tclsh-notifier"): (*SOCKET_FILES[1:], *LOOP_FILES),
    ("8.6", "python"): SOCKET_FILES,
    ("8.6", "python-ring"): SOCKET_FILES,
    ("9.0", "tclsh"): SOCKET_FILES,
    ("9.0", "tclsh-ring"): (*SOCKET_FILES, *LOOP_FILES),
    ("9.0", "tclsh-notifier"): (*SOCKET_FILES[1:], *LOOP_FILES),
}
CASES = [(*host, file) for host, files in HOSTS.items() for file in files]
BASELINE = Baseline.read()


def runs_of(params: dict[str, Any]) -> list[Run]:
    """Return the runs that a test with these parameters compares: the core's, and its own."""
    tcl, host, file = params["case"]
    run = Run(tcl, host, file, params["engine"].name)
    return [run.core, run] if params["engine"].usable else []


@pytest.fixture(scope="session")
def suites(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suites]:
    suites = Suites(tmp_path_factory.mktemp("core"))
    runs = [
        run
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_core_suite
        for run in runs_of(item.callspec.params)
    ]
    files = (*SOCKET_FILES, *LOOP_FILES)
    suites.start(sorted(runs, key=lambda run: files.index(run.file)))
    yield suites
    suites.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_core_suite(
    suites: Suites,
    case: tuple[str, str, str],
    engine: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Every test that passes with the core passes, but for the differences listed."""
    tcl, host, file = case
    run = Run(tcl, host, file, engine)
    core = suites.outcome(run.core)
    # A busy machine fails some that count milliseconds.
    suites.repeat(run.core, BASELINE.surprises(run.core, core))
    assert core.complete, f"{run.file} does not run with the core:\n{core.output}"
    found = BASELINE.complaints(run.core, core)
    assert not found, "\n".join(found)

    ours = suites.outcome(run)
    print(ours.output)
    assert ours.complete, f"{run.file} did not run to its end, or lost count"
    listed = differences(run, core.ends)
    repeated = unlucky(ours, listed)
    suites.repeat(run, repeated)
    # One that has not passed now is a complaint as any other.
    listed = {name: entry for name, entry in listed.items() if name not in repeated}
    complained = complaints(core, ours, listed)
    assert not complained, "\n".join(f"{name} {what}" for name, what in complained.items())
    record_property("passed", sum(end == PASSED for end in core.ends.values()))
    record_property("differences", sum(ours.ends.get(name) == FAILED for name in listed))
    record_property("repeated", sorted(repeated))


@pytest.mark.parametrize("host", HOSTS, ids="-".join)
def test_every_interpreter_has_the_driver(
    host: tuple[str, str], engine: str, tmp_path: Path
) -> None:
    """The suites would pass without it: main programs, children, threads and interpreters do."""
    run = Run(*host, "who.tcl", engine)
    script = tmp_path / run.file
    script.write_text(WHO)

    def output(run: Run, argument: str) -> str:
        done = subprocess.run(
            [shell(run, tmp_path), str(script), argument],
            env=environment(run),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    assert output(run, "main").splitlines() == [
        f"{where} {'sock' if run.loop == 'notifier' else 'iocp'} {engine}"
        f" {'ring' if run.loop else 'tcl'}"
        for where in ("main", "file", "commands", "interp", "thread")
    ]
    assert output(run.core, "file") == "file sock\n"


WHO = """
proc who where {
    set listener [socket -server none -myaddr 127.0.0.1 0]
    regexp {^(?:sock|iocp)} $listener type
    close $listener
    if {$type eq "sock" && ![info exists ::env(TCLCHAN_TEST_SOCKET)]} {
        return "$where $type"
    }
    return "$where $type [iocp::engine] [iocp::notifier]"
}
set who [list proc who where [info body who]]
set where [lindex $argv 0]
puts [who $where]
if {$where ne "main"} {
    exit
}
set script [file normalize [info script]]
puts [exec [info nameofexecutable] $script file]
puts [exec [info nameofexecutable] << "$who; puts \\[who commands\\]"]
interp create child
puts [child eval "$who; who interp"]
package require Thread
puts [thread::send [thread::create] "$who; who thread"]
"""


def outcome(*ends: str) -> Outcome:
    """Make the outcome of a run, in which the test a-1 ended with the first of *ends*."""
    reports = {
        PASSED: "++++ {name} PASSED\n",
        SKIPPED: "++++ {name} SKIPPED: reason\n",
        FAILED: "==== {name} does it FAILED\n---- Result was:\niocp1 (a)\n"
        "---- Result should have been (exact matching):\nsock1 (a)\n==== {name} FAILED\n\n",
    }
    lines = [reports[end].format(name=f"a-{number}") for number, end in enumerate(ends, 1)]
    count = Counter(ends)
    totals = f"Passed\t{count[PASSED]}\tSkipped\t{count[SKIPPED]}\tFailed\t{count[FAILED]}"
    return Outcome(0, "".join(lines) + f"a.test:\tTotal\t{len(ends)}\t{totals}\n")


def test_outcomes_are_read() -> None:
    run = outcome(PASSED, SKIPPED, FAILED)
    assert run.complete
    assert run.ends == {"a-1": PASSED, "a-2": SKIPPED, "a-3": FAILED}
    assert run.results == {"a-3": "iocp1 (a)"}
    assert run.reasons == {"a-2": "reason"}
    assert not Outcome(1, run.output).complete
    assert Outcome(-11, run.output).crashed_at_exit
    assert not Outcome(-11, run.output).complete
    assert not Outcome(-11, run.output.partition("a.test:")[0]).crashed_at_exit
    for lost in ("++++ a-1 PASSED\n", "==== a-3 FAILED\n", "++++ a-2 SKIPPED: reason\n"):
        assert Outcome(0, run.output.replace(lost, "")).complete is ("SKIPPED" in lost)
    assert not Outcome(0, run.output.partition("a.test:")[0]).complete
    assert not Outcome(0, "").complete
    twice = Outcome(0, run.output.replace("a-2", "a-1"))
    assert twice.ends == {"a-1": PASSED, "a-1 (2)": SKIPPED, "a-3": FAILED}


@pytest.mark.parametrize(
    ("core", "ours", "result", "complaint"),
    [
        (PASSED, PASSED, None, None),
        (SKIPPED, SKIPPED, None, None),
        (SKIPPED, FAILED, None, None),
        (FAILED, FAILED, None, None),
        (PASSED, FAILED, None, "failed, with the result: iocp1 (a)"),
        (PASSED, SKIPPED, None, "is skipped, and passed with the core's socket"),
        (PASSED, None, None, "is missing, and passed with the core's socket"),
        (PASSED, FAILED, "iocp* (a)", None),
        (PASSED, FAILED, "iocp2 (a)", "failed, with the result: iocp1 (a)"),
        (PASSED, PASSED, "iocp* (a)", "passes, and is listed as a difference"),
        (PASSED, SKIPPED, "iocp* (a)", "is skipped, and passed with the core's socket"),
        (SKIPPED, SKIPPED, "iocp* (a)", None),
        (None, None, "iocp* (a)", "is listed, and there is no such test"),
    ],
)
def test_outcomes_are_compared(
    core: str | None, ours: str | None, result: str | None, complaint: str | None
) -> None:
    listed = {"a-1": Difference(["8.6"], "a.test", ["a-1"], result, "why")} if result else {}
    found = complaints(outcome(*filter(None, [core])), outcome(*filter(None, [ours])), listed)
    assert found == ({"a-1": complaint} if complaint else {})


def test_a_test_may_fail_at_times() -> None:
    """Then it is run again by itself, without the excuse."""
    listed = {"a-1": Difference(["8.6"], "a.test", ["a-1"], "iocp*", "why", at_times=True)}
    assert complaints(outcome(PASSED), outcome(PASSED), listed) == {}
    assert complaints(outcome(PASSED), outcome(SKIPPED), listed) != {}
    assert unlucky(outcome(PASSED), listed) == set()
    assert unlucky(outcome(FAILED), listed) == {"a-1"}
    other = {"a-1": Difference(["8.6"], "a.test", ["a-1"], "sock*", "why", at_times=True)}
    assert unlucky(outcome(FAILED), other) == set()


def test_differences_are_of_the_socket_or_of_the_loop() -> None:
    of_socket = Difference(["8.6"], "a.test", ["a-1"], "x", "why")
    of_loop = Difference(["8.6"], "a.test", ["a-2"], "x", "why", of="loop")
    concerned = {
        host: (of_socket.concerns(run), of_loop.concerns(run))
        for host in ("tclsh", "tclsh-ring", "tclsh-notifier")
        for run in [Run("8.6", host, "a.test", "epoll")]
    }
    assert concerned == {
        "tclsh": (True, False),
        "tclsh-ring": (True, True),
        "tclsh-notifier": (False, True),
    }


def test_the_core_is_held_to_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coresuites.source_version", lambda tcl: "8.6.13")
    run = Run("8.6", "tclsh", "a.test", None)
    known = Difference(["8.6"], "a.test", ["a-3"], "*", "why")
    core = outcome(PASSED, SKIPPED, FAILED)

    def found(never: str, machine: str, tests: int, *failures: Difference) -> list[str]:
        counts = {"8.6.13": {"a.test": tests}}
        baseline = Baseline({never: "why"}, {machine: "why"}, counts, list(failures))
        return baseline.complaints(run, core)

    assert found("reason", "", 1, known) == []
    assert found("", "reason", 2, known) == []
    assert found("", "", 1, known) == ["a-2 is skipped, and nobody says why: reason"]
    assert found("reason", "", 1) == ["a-3 failed with the core, with: iocp1 (a)"]
    assert found("reason", "", 2, known) == ["1 tests of Tcl 8.6.13 can pass with the core, not 2"]


def test_all_that_is_listed_is_looked_at() -> None:
    """An entry for a file that no run reads would be there for nothing."""
    runs = [Run(*case, None) for case in CASES]
    for entry in all_differences():
        read = {run.tcl for run in runs if entry.concerns(run)}
        assert read == set(entry.tcl), entry
    for failure in BASELINE.failures:
        assert {(tcl, failure.file) for tcl in failure.tcl} <= {(run.tcl, run.file) for run in runs}


@pytest.mark.parametrize("tcl", ["8.6", "9.0"])
def test_the_chosen_tests_of_pipelines_are_of_each_kind(tcl: str) -> None:
    """Names that there are not would choose nothing: the baseline's count tells."""
    pattern = r"httpPipeline-([1-4])\.(\d+)([a-j])-(normal|testEof)(?:-([012]))?"
    parts = [re.fullmatch(pattern, name) for name in pipeline_tests(tcl)]
    headers, scripts, delays, kinds, levels = zip(*(x.groups() for x in parts if x), strict=True)
    assert len(parts) == len(headers) == len(set(pipeline_tests(tcl)))
    assert set(headers) == {"1", "2", "3", "4"}
    assert set(scripts) == {str(number) for number in range(1, 26)}
    assert set(delays) == set("abcdefghij")
    assert set(kinds) == ({"normal"} if tcl == "9.0" else {"normal", "testEof"})
    assert set(levels) == ({"0", "1", "2"} if tcl == "9.0" else {None})
