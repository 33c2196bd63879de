"""What the measurements say: medians, spreads, and ratios to Tcl's own sockets of the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from .contenders import Contender, Tclsh
from .load import Work
from .machine import Machine
from .rounds import Result
from .workloads import Run

FORMAT = 1


def cpu_us(work: Work) -> float:
    """The server's CPU time for a unit, in microseconds."""
    return work.cpu_ns / 1e3 / work.units


def rate(work: Work) -> float:
    """Units in a second."""
    return work.units / work.seconds


def median(result: Result, figure: Callable[[Work], float]) -> float:
    """The middle of all rounds."""
    return statistics.median(map(figure, result.works))


def spread(result: Result, figure: Callable[[Work], float]) -> float:
    """Half of what lies between the least and the greatest, as a part of the median."""
    values = [figure(work) for work in result.works]
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def cores_of(results: Iterable[Result], workload: str) -> list[Result]:
    """Those of Tcl's own sockets that the others of the workload are compared to."""
    return [r for r in results if r.workload.name == workload and r.contender.is_core and r.works]


def to_json(
    machine: Machine, tclshs: Sequence[Tclsh], run: Run, rounds: int, results: Sequence[Result]
) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": FORMAT,
        "machine": {**asdict(machine), "pinning": machine.pinning},
        "tclsh": [
            {
                "path": tclsh.path,
                "patchlevel": tclsh.patchlevel,
                "engines": list(tclsh.engines),
                "missing": tclsh.missing,
            }
            for tclsh in tclshs
        ],
        "seconds": run.seconds,
        "rounds": rounds,
        "quick": run.quick,
        "results": [_result_json(run, result, results) for result in results],
    }


def _result_json(run: Run, result: Result, results: Sequence[Result]) -> dict[str, Any]:
    contender = result.contender
    tcl = isinstance(contender, Contender)
    entry: dict[str, Any] = {
        "workload": result.workload.name,
        "title": result.workload.title,
        "unit": result.workload.unit,
        "contender": contender.name,
        "tcl": contender.tclsh.patchlevel if isinstance(contender, Contender) else "",
        "engine": contender.engine if isinstance(contender, Contender) else "",
        "mode": contender.mode if isinstance(contender, Contender) else "",
        "core": tcl and contender.is_core,
        "note": run.notes.get((result.workload.name, contender.name), ""),
        "aborts": result.aborts,
        "failure": result.failure,
        "left_out": result.left_out,
        "rounds": [
            {"cpu_us_per_unit": cpu_us(w), "units_per_s": rate(w), **w.extra} for w in result.works
        ],
        "extra": {name: _extra(result, name) for w in result.works[:1] for name in w.extra},
    }
    if result.works:
        for name, figure in (("cpu_us_per_unit", cpu_us), ("units_per_s", rate)):
            entry[name] = {
                "median": median(result, figure),
                "spread": spread(result, figure),
                "ratio_to": {
                    core.contender.name: median(result, figure) / median(core, figure)
                    for core in cores_of(results, result.workload.name)
                },
            }
    return entry


def _extra(result: Result, name: str) -> float:
    return median(result, lambda work: work.extra[name])


# How the tables show the figures that only some workloads have: a heading, and the form.
_EXTRA: dict[str, tuple[str, Callable[[float], str]]] = {
    "p50_us": ("p50 us", "{:,.0f}".format),
    "p99_us": ("p99 us", "{:,.0f}".format),
    "connections_accepted": ("accepted", "{:,.0f}".format),
    "idle_connections": ("idle", "{:,.0f}".format),
    "memory_bytes_per_connection": ("bytes/idle", "{:,.0f}".format),
    "memory_bytes_per_used_connection": ("bytes/used", "{:,.0f}".format),
    "cpu_ratio_to_none_idle": ("CPU/none idle", "{:.2f}".format),
    "last_newcomer_ms": ("last newcomer ms", "{:,.0f}".format),
    "slowest_kB_per_s": ("slowest kB/s", "{:,.0f}".format),
    "cpu_ratio_to_none_slow": ("CPU/none slow", "{:.2f}".format),
    "buffers_per_read": ("buffers/read", "{:.1f}".format),
}


def to_text(
    machine: Machine, tclshs: Sequence[Tclsh], run: Run, rounds: int, results: Sequence[Result]
) -> str:
    """Everything, for people."""
    tcls = ", ".join(f"{t.patchlevel} ({t.path})" for t in tclshs)
    turns = f"{rounds} round{'s' * (rounds > 1)} of {run.seconds:g} s each"
    lines = [
        f"machine:   {machine.cpu}, {machine.cores} core{'s' * (machine.cores > 1)}",
        f"kernel:    {machine.kernel}",
        f"Tcl:       {tcls}",
        f"engines:   {', '.join(dict.fromkeys(e for t in tclshs for e in t.engines)) or 'none'}",
        f"in turns:  {turns}; {machine.pinning}",
    ]
    if run.quick:
        lines.append("quick:     this shows that everything works; the figures say nothing")
    lines += [f"Tcl {t.patchlevel} has no driver: {t.missing}" for t in tclshs if t.missing]
    lines += [
        "",
        "Medians, and how far the rounds are apart. CPU is the time of the whole server process,",
        "user and system. Ratios are to Tcl's own sockets (core) in this run: CPU of less than 1",
        "and a rate of more than 1 are better.",
    ]
    for name in dict.fromkeys(result.workload.name for result in results):
        lines += ["", *_table(run, [r for r in results if r.workload.name == name])]
    return "\n".join(lines)


def _table(run: Run, row: Sequence[Result]) -> list[str]:
    workload = row[0].workload
    lines = [f"{workload.name}: {workload.title}"]
    measured = [result for result in row if result.works]
    cores = cores_of(row, workload.name)
    extras = [name for name in _EXTRA if measured and name in measured[0].works[0].extra]
    heads = ["", f"CPU us/{workload.unit}"]
    heads += [f"/{core.contender.name}" for core in cores]
    heads += [f"{workload.unit}{'' if workload.unit == 'MB' else 's'}/s"]
    heads += [f"/{core.contender.name}" for core in cores]
    heads += [_EXTRA[name][0] for name in extras]
    cells = [heads] if measured else []
    for result in measured:
        cells.append([result.contender.name])
        for figure in (cpu_us, rate):
            value = _number(median(result, figure))
            if len(result.works) > 1:
                value += f" ±{100 * spread(result, figure):.0f}%"
            ratios = [f"{median(result, figure) / median(core, figure):.2f}" for core in cores]
            cells[-1] += [value, *ratios]
        cells[-1] += [_EXTRA[name][1](_extra(result, name)) for name in extras]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for cell in cells:
        padded = [cell[0].ljust(widths[0])]
        padded += [text.rjust(width) for text, width in zip(cell[1:], widths[1:], strict=True)]
        lines.append(f"  {'  '.join(padded)}".rstrip())
    return lines + _remarks(run, row)


def _remarks(run: Run, row: Sequence[Result]) -> list[str]:
    """What else there is to say, each thing once for all contenders that it is about."""
    remarks: dict[str, list[str]] = {}
    for result in row:
        name = result.contender.name
        note = run.notes.get((result.workload.name, name), "")
        failure = f"FAILED: {result.failure}" if result.failure else ""
        left_out = f"left out: {result.left_out}" if result.left_out else ""
        for remark in filter(None, (note, result.aborts, failure, left_out)):
            remarks.setdefault(remark, []).append(name)
    return [
        f"  {'all' if len(names) == len(row) else ', '.join(names)}: {remark}"
        for remark, names in remarks.items()
    ]


def _number(value: float) -> str:
    """Three digits that say something, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
