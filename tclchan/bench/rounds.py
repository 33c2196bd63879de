"""The order of the measurements: round by round, all contenders of a workload in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .contenders import Contender
from .errors import Died, Failure, LeftOut
from .load import Work
from .marks import Mark
from .workloads import Run, Workload


@dataclass
class Result:
    """All measurements of a workload on a contender.

    Attributes:
        workload: the workload.
        contender: the contender.
        works: what was done, once for each round.
        aborts: why the server aborts, where that is what is known of the contender.
        failure: what went wrong; empty if nothing did.
        left_out: why it was not measured; empty if it was.
    """

    workload: Workload
    contender: Contender | Mark
    works: list[Work] = field(default_factory=list)
    aborts: str = ""
    failure: str = ""
    left_out: str = ""

    @property
    def over(self) -> bool:
        """Whether further rounds would tell nothing."""
        return bool(self.aborts or self.failure or self.left_out)


def measure(
    run: Run,
    workloads: Sequence[Workload],
    contenders: Sequence[Contender],
    marks: Sequence[Mark],
    rounds: int,
    progress: Callable[[str], None],
) -> list[Result]:
    """Measure everything.

    Args:
        run: the conditions.
        workloads: what to measure.
        contenders: what to measure it on.
        marks: servers without Tcl, for the workloads that have use for them.
        rounds: how often.
        progress: called before each measurement with what it is.
    """
    results = []
    for workload in workloads:
        row = [Result(workload, contender) for contender in contenders]
        row += [Result(workload, mark) for mark in marks if mark.name in workload.marks]
        for number in range(rounds):
            # There and back, so that what drifts does not always hit the same ones.
            for result in row if number % 2 == 0 else reversed(row):
                progress(f"{workload.name} on {result.contender.name}")
                if not result.over:
                    _measure_once(run, result)
        results += row
    return results


def planned(
    workloads: Sequence[Workload],
    contenders: Sequence[Contender],
    marks: Sequence[Mark],
    rounds: int,
) -> int:
    """How many measurements there are going to be."""
    return rounds * sum(
        len(contenders) + sum(mark.name in workload.marks for mark in marks)
        for workload in workloads
    )


def _measure_once(run: Run, result: Result) -> None:
    workload, contender = result.workload, result.contender
    wanted = workload.connections
    if wanted > run.machine.connections:
        result.left_out = (
            f"{wanted:,} connections need more than {run.machine.descriptors:,} descriptors"
        )
        return
    try:
        result.works.append(workload.measure(run, contender))
    except LeftOut as reason:
        result.left_out = str(reason)
    except (Failure, OSError) as error:
        limit = contender.connections if isinstance(contender, Contender) else None
        if isinstance(error, Died) and error.aborted and limit is not None and wanted > limit:
            result.aborts = "it aborts: Tcl 8.6's select takes no descriptor over 1,023"
        else:
            result.failure = str(error)
