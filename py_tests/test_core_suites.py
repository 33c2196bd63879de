"""The test suites of Tcl's core pass with `socket2` in place of `socket`, as they do without.

What fails for a good reason is listed in tcl_tests/core/differences.toml, and nothing else.
"""

from __future__ import annotations

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
    Difference,
    Outcome,
    Run,
    Suites,
    all_differences,
    complaints,
    differences,
    environment,
    shell,
)

# First what runs alone, then the longest. The tests of httpPipeline.test need a server of their
# authors.
FILES = (
    "socket.test",
    "io.test",
    "chanio.test",
    "http11.test",
    "ioCmd.test",
    "zlib.test",
    "http.test",
)
# Python runs Tcl's event loop on the driver, too.
HOSTS = [("8.6", "tclsh"), ("8.6", "python"), ("9.0", "tclsh"), ("9.0", "ring")]


def runs_of(params: dict[str, Any]) -> list[Run]:
    """Return the runs that a test with these parameters compares: the core's, and its own."""
    (tcl, host), info = params["host"], params["engine"]
    run = Run(tcl, host, params["file"], info.name)
    return [run.core, run] if info.usable else []


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
    suites.start(sorted(runs, key=lambda run: FILES.index(run.file)))
    yield suites
    suites.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("host", HOSTS, ids="-".join)
def test_core_suite(
    suites: Suites,
    host: tuple[str, str],
    file: str,
    engine: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Every test that passes with the core's socket passes, but for the differences listed."""
    run = Run(*host, file, engine)
    core = suites.outcome(run.core)
    assert core.complete, f"{file} does not run with the core's socket:\n{core.output}"
    passed = sum(end == PASSED for end in core.ends.values())
    assert passed > 0
    ours = suites.outcome(run)
    print(ours.output)
    assert ours.complete, f"{file} did not run to its end, or lost count"
    found = complaints(core, ours, differences(host[0], file))
    assert not found, "\n".join(found)
    record_property("passed", passed)


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

    notifier = "tcl" if host[1] == "tclsh" else "ring"
    assert output(run, "main").splitlines() == [
        f"{where} iocp {engine} {notifier}"
        for where in ("main", "file", "commands", "interp", "thread")
    ]
    assert output(run.core, "file") == "file sock\n"


WHO = """
proc who where {
    set listener [socket -server none -myaddr 127.0.0.1 0]
    regexp {^[a-z]+} $listener type
    close $listener
    if {$type eq "sock"} {
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
    assert not Outcome(1, run.output).complete
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
        (PASSED, FAILED, None, "a-1 failed, with the result: iocp1 (a)"),
        (PASSED, SKIPPED, None, "a-1 is skipped, and passed with the core's socket"),
        (PASSED, None, None, "a-1 is missing, and passed with the core's socket"),
        (PASSED, FAILED, "iocp* (a)", None),
        (PASSED, FAILED, "iocp2 (a)", "a-1 failed, with the result: iocp1 (a)"),
        (PASSED, PASSED, "iocp* (a)", "a-1 passes, and is listed as a difference"),
        (PASSED, SKIPPED, "iocp* (a)", "a-1 is skipped, and passed with the core's socket"),
        (SKIPPED, SKIPPED, "iocp* (a)", None),
        (None, None, "iocp* (a)", "a-1 is listed, and there is no such test"),
    ],
)
def test_outcomes_are_compared(
    core: str | None, ours: str | None, result: str | None, complaint: str | None
) -> None:
    listed = {"a-1": Difference(["8.6"], "a.test", ["a-1"], result, "why")} if result else {}
    found = complaints(outcome(*filter(None, [core])), outcome(*filter(None, [ours])), listed)
    assert found == ([complaint] if complaint else [])


def test_a_test_may_fail_at_times() -> None:
    listed = {"a-1": Difference(["8.6"], "a.test", ["a-1"], "iocp*", "why", at_times=True)}
    assert complaints(outcome(PASSED), outcome(PASSED), listed) == []
    assert complaints(outcome(PASSED), outcome(FAILED), listed) == []
    assert complaints(outcome(PASSED), outcome(SKIPPED), listed) != []


def test_all_that_is_listed_is_looked_at() -> None:
    """An entry for a file that no run reads would be there for nothing."""
    run = {(tcl, file) for tcl, _ in HOSTS for file in FILES}
    for entry in all_differences():
        assert {(tcl, entry.file) for tcl in entry.tcl} <= run
        assert entry.reason
