"""The results as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import BenchError
from .report import cores_of, cpu_us, median, rate
from .rounds import Result

_INSTALL = 'matplotlib is not installed: "pip install tclchan[bench]" does that'


def check_installed() -> None:
    """Raise `BenchError` if there is nothing to draw with."""
    _pyplot()


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise BenchError(_INSTALL) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    return pyplot


def draw(path: Path, title: str, results: Sequence[Result]) -> None:
    """Draw the ratios to Tcl's own sockets, and what the limit of send buffers does, as a PNG.

    Args:
        path: the file.
        title: a line above everything, which says where this was measured.
        results: what to draw.
    """
    pyplot = _pyplot()
    caps = [r for r in results if r.works and r.workload.kind == "sendcap"]
    ratios = _ratios([r for r in results if r.workload.kind != "sendcap"])
    heights = [1.0 + 0.16 * sum(map(len, ratios.values()))] * bool(ratios) + [4.5] * bool(caps)
    if not heights:
        raise BenchError("there is nothing to draw: no result has one of Tcl's own beside it")
    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(10, sum(heights) + 0.5),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    panels = [row[0] for row in axes]
    figure.suptitle(title, fontsize="small")
    if ratios:
        _draw_ratios(panels[0], ratios)
    if caps:
        _draw_caps(panels[-1], caps)
    figure.savefig(path, dpi=120, format="png")
    pyplot.close(figure)


def _ratios(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The CPU times by workload and contender, as parts of that of the core of the same Tcl."""
    ratios: dict[str, dict[str, float]] = {}
    for result in results:
        cores = cores_of(results, result.workload.name)
        own = [c for c in cores if c.contender.name.split()[0] == result.contender.name.split()[0]]
        if result.works and cores:
            part = median(result, cpu_us) / median((own or cores)[0], cpu_us)
            ratios.setdefault(result.workload.name, {})[result.contender.name] = part
    return ratios


def _draw_ratios(panel: Any, ratios: dict[str, dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in ratios.values() for name in row))
    place = 0.0
    ticks = []
    for row in ratios.values():
        ticks.append(place + (len(row) - 1) / 2)
        for name, value in row.items():
            panel.barh(place, value, color=f"C{names.index(name) % 10}", height=0.9)
            place += 1
        place += 1
    for number, name in enumerate(names):
        panel.barh(0, 0, color=f"C{number % 10}", label=name)
    panel.set_yticks(ticks, list(ratios))
    panel.invert_yaxis()
    panel.axvline(1.0, color="black", linewidth=0.8)
    panel.set_xlabel("CPU time of the server for a unit of work, as a part of that Tcl's core")
    panel.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def _draw_caps(panel: Any, caps: Sequence[Result]) -> None:
    pool = panel.twinx()
    for number, name in enumerate(dict.fromkeys(r.contender.name for r in caps)):
        own = [r for r in caps if r.contender.name == name]
        x = [int(r.workload.name.partition("-")[2]) for r in own]
        color = f"C{number % 10}"
        panel.plot(x, [median(r, rate) for r in own], "o-", color=color, label=name)
        buffers = [median(r, lambda work: work.extra["buffers_per_read"]) for r in own]
        pool.plot(x, buffers, "x:", color=color)
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [str(cap) for cap in x])
    panel.set_xlabel("-sendcap of the sender, and the cap of the receiver's burst-detection")
    panel.set_ylabel("MB/s (solid)")
    panel.set_ylim(bottom=0)
    pool.set_ylabel("buffers received at once (dotted)")
    pool.set_ylim(bottom=0)
    panel.legend(fontsize="small")
