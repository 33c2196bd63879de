"""The results as a picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .contenders import Contender
from .errors import BenchError
from .load import Work
from .marks import Mark
from .report import cores_of, cpu_us, median, rate
from .rounds import Result

_INSTALL = 'matplotlib is not installed: "pip install tclchan[bench]" does that'
_ROW_INCHES = 0.3
_COLOURS = 256
_FORMS = "os^v"
_MARK_FORM = "D"

# What a contender's points and lines look like, for matplotlib, by its name.
Looks = dict[str, dict[str, str]]


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
    compared = [
        r for r in results if r.works and r.workload.kind != "sendcap" and _core_of(r, results)
    ]
    rows = list(dict.fromkeys(r.workload.title for r in compared))
    if not rows and not caps:
        raise BenchError("there is nothing to draw: no result has one of Tcl's own beside it")
    heights = [0.9 + _ROW_INCHES * len(rows)] * bool(rows) + [3.0] * bool(caps)
    figure, panels = pyplot.subplot_mosaic(
        [["cpu", "rate"]] * bool(rows) + [["caps", "caps"]] * bool(caps),
        figsize=(12, sum(heights) + 0.7),
        height_ratios=heights,
        layout="constrained",
    )
    figure.suptitle(title, fontsize="medium")
    looks = _looks([r.contender for r in (*compared, *caps) if not r.contender.is_core])
    if rows:
        for panel, figure_of, what in (
            (panels["cpu"], cpu_us, "CPU time of the server for a unit of work: less is better"),
            (panels["rate"], rate, "throughput: more is better"),
        ):
            _draw_ratios(panel, compared, rows, figure_of, looks)
            panel.set_title(what, fontsize="small")
        panels["cpu"].set_yticks(range(len(rows)), rows, fontsize="small")
        panels["rate"].set_yticks(range(len(rows)), [])
    if caps:
        _draw_caps(panels["caps"], caps, looks)
    lines = [
        pyplot.Line2D([], [], linestyle="", label=name, **look) for name, look in looks.items()
    ]
    core = pyplot.Line2D([], [], color="black", label="Tcl's own sockets: 1")
    figure.legend(
        handles=[core] * bool(rows) + lines, loc="outside lower center", ncols=5, fontsize="small"
    )
    _save(figure, path)
    pyplot.close(figure)


def _save(figure: Any, path: Path) -> None:
    """Write a PNG of few colours, which is a third of the size that matplotlib makes it."""
    from PIL import Image

    png = io.BytesIO()
    figure.savefig(png, dpi=90, format="png")
    with Image.open(png) as image:
        image.convert("RGB").quantize(_COLOURS).save(path, format="png", optimize=True)


def _core_of(result: Result, results: Sequence[Result]) -> Result | None:
    """The sockets of the same Tcl in the same workload; for a mark those of the first Tcl."""
    contender = result.contender
    cores = cores_of(results, result.workload.name)
    if isinstance(contender, Contender):
        cores = [core for core in cores if _tcl(core.contender) == _tcl(contender)]
    return next(iter(cores), None)


def _tcl(contender: Contender | Mark) -> str:
    return contender.tclsh.patchlevel if isinstance(contender, Contender) else ""


def _looks(contenders: Sequence[Contender | Mark]) -> Looks:
    """The colour says which engine and mode or which mark, the form which Tcl."""
    known = {c.name: c for c in contenders}
    sockets = list(dict.fromkeys(name.removeprefix(_tcl(c)) for name, c in known.items()))
    tcls = list(dict.fromkeys(_tcl(c) for c in known.values() if _tcl(c)))
    return {
        name: {
            "color": f"C{sockets.index(name.removeprefix(_tcl(c))) % 10}",
            "marker": _FORMS[tcls.index(_tcl(c)) % len(_FORMS)] if _tcl(c) else _MARK_FORM,
        }
        for name, c in known.items()
    }


def _draw_ratios(
    panel: Any,
    compared: Sequence[Result],
    rows: Sequence[str],
    figure_of: Callable[[Work], float],
    looks: Looks,
) -> None:
    panel.axvline(1.0, color="black", linewidth=1)
    names = list(looks)
    for result in compared:
        core = _core_of(result, compared)
        if core is None or result is core:
            continue
        # One below the other, so that none hides another.
        number = names.index(result.contender.name)
        place = rows.index(result.workload.title) + 0.7 * ((number + 0.5) / len(names) - 0.5)
        ratio = median(result, figure_of) / median(core, figure_of)
        panel.plot(ratio, place, markersize=5, **looks[result.contender.name])
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    for edge in range(1, len(rows)):
        panel.axhline(edge - 0.5, color="lightgrey", linewidth=0.5)
    panel.grid(axis="x", color="lightgrey", linewidth=0.5)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)


def _draw_caps(panel: Any, caps: Sequence[Result], looks: Looks) -> None:
    pool = panel.twinx()
    for name in dict.fromkeys(r.contender.name for r in caps):
        own = [r for r in caps if r.contender.name == name]
        x = [int(r.workload.name.partition("-")[2]) for r in own]
        buffers = [median(r, lambda work: work.extra["buffers_per_read"]) for r in own]
        panel.plot(x, [median(r, rate) for r in own], linestyle="-", **looks[name])
        pool.plot(x, buffers, linestyle=":", **looks[name])
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [str(cap) for cap in x])
    panel.set_xlabel("-sendcap of the sender, and the cap of the receiver's burst-detection")
    panel.set_ylabel("MB/s (solid)")
    panel.set_ylim(bottom=0)
    pool.set_ylabel("buffers received at once (dotted)")
    pool.set_ylim(bottom=0)
