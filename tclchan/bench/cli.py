"""The command ``tclchan bench``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import plot, report
from .contenders import MODES, Tclsh, contenders, find_tclsh
from .errors import BenchError
from .machine import Machine, prepare
from .marks import FILE_MARKS, Mark, check_installed
from .progress import progress_bar
from .rounds import measure, planned
from .workloads import IDLE_CONNECTIONS, WORKLOADS, Run, chosen, need_wrk

DESCRIPTION = """\
Measure the sockets of Tcl and those of the driver with the same scripts and the same load, in turns
and over several rounds, each server in a process of its own. Every reply is checked. The first
figure is the CPU time that the server process takes for a unit of work; the rate stands beside it,
and is limited by the load too. What counts are the ratios to Tcl's own sockets (core) of the same
run: machines differ, and are noisy.
"""

EPILOG = """\
The exit code is 1 if a measurement failed. That Tcl 8.6 aborts with more than 1,000 connections is
a result, and no failure. All traffic stays on this machine, at ports that are free. wrk makes the
requests ("apt-get install wrk"). For a bar of progress and for pictures: "pip install
tclchan[bench]".

  tclchan bench --workload keepalive                  all workloads of one kind
  tclchan bench --workload keepalive --with floor     the same, beside a C program
  tclchan bench --tclsh tclsh8.6 --tclsh tclsh9.0     two Tcls, side by side
"""

_DEFAULT_ROUNDS = 3
_DEFAULT_SECONDS = 2.0
_QUICK_SECONDS = 0.15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tclchan bench``."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--list", action="store_true", help="print the workloads, and do nothing")
    parser.add_argument(
        "--workload",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what to measure, by a name of --list or by its first word (default: everything)",
    )
    parser.add_argument(
        "--tclsh",
        action="append",
        metavar="PATH",
        help="a Tcl to measure; can be given several times (default: tclsh)",
    )
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="an engine to measure, see doctor; can be given several times (default: all)",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        action="append",
        help="guest: in Tcl's own event loop; host: with the loop on the engine (default: both)",
    )
    parser.add_argument(
        "--with",
        dest="marks",
        default="",
        metavar="NAME,...",
        help="measure these beside, where they can do the workload: floor, a C program that makes "
        "the system calls of the io_uring engine and does nothing else; nginx (one worker); "
        "uvicorn. For files, sendfile(2), and read(2) and send(2), are there always",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"how often everything is measured (default: {_DEFAULT_ROUNDS})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help=f"how long a measurement takes (default: {_DEFAULT_SECONDS:g}); with thousands of "
        "connections it takes longer",
    )
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pin the servers to one core and the load to another one (default). Without it, the "
        "threads of one server may run on different cores, as the notifier of Tcl 8.6 does then: "
        "its figures are other ones",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only show that everything works: one round, small and short",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="draw the ratios of the CPU times, and of sendcap the rates (takes matplotlib)",
    )


def main(args: argparse.Namespace) -> int:
    """Measure, and print what was found."""
    if args.list:
        width = max(len(workload.name) for workload in WORKLOADS)
        print("\n".join(f"{w.name:<{width}}  {w.title}" for w in WORKLOADS))
        return 0
    # Children are ended on the way out, whichever signal it is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _main(args)
    except KeyboardInterrupt:
        print("tclchan bench: interrupted", file=sys.stderr)
        return 130


def _main(args: argparse.Namespace) -> int:
    rounds = _positive("--rounds", args.rounds, 1 if args.quick else _DEFAULT_ROUNDS)
    seconds = _positive(
        "--seconds", args.seconds, _QUICK_SECONDS if args.quick else _DEFAULT_SECONDS
    )
    workloads = chosen(args.workload)
    need_wrk(workloads)
    mark_names = [name for name in args.marks.split(",") if name]
    for name in mark_names:
        check_installed(name)
    for path in filter(None, (args.json, args.plot)):
        _check_writable(path)
    if args.plot:
        plot.check_installed()
    tclshs = [find_tclsh(path) for path in args.tclsh or ["tclsh"]]
    _check_engines(args.engine, tclshs)

    machine = prepare(IDLE_CONNECTIONS, args.pin)
    columns = contenders(tclshs, args.engine, args.mode or MODES, machine.server_cpu)
    marks = [
        Mark(name, machine.server_cpu, machine.descriptors) for name in (*mark_names, *FILE_MARKS)
    ]
    with tempfile.TemporaryDirectory(prefix="tclchan-bench-") as work:
        run = Run(machine, seconds, args.quick, Path(work), {})
        with progress_bar(planned(workloads, columns, marks, rounds)) as progress:
            results = measure(run, workloads, columns, marks, rounds, progress)
    print(report.to_text(machine, tclshs, run, rounds, results))
    if args.json:
        found = report.to_json(machine, tclshs, run, rounds, results)
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.plot:
        plot.draw(args.plot, _plot_title(machine, tclshs), results)
    return int(any(result.failure for result in results))


def _positive(option: str, value: Any, default: Any) -> Any:
    if value is None:
        return default
    if not 0 < value <= 1000:
        raise ValueError(f"{option} must be more than 0 and at most 1000")
    return value


def _check_writable(path: Path) -> None:
    """Find out before the measurements, which take long, whether they can be written down."""
    existed = path.exists()
    try:
        with path.open("ab", buffering=0) as file:
            file.write(b"")  # Some files can be opened and not be written to.
        if not existed:
            path.unlink()
    except OSError as error:
        raise BenchError(f'"{path}" cannot be written: {error.strerror}') from error


def _check_engines(engines: list[str], tclshs: list[Tclsh]) -> None:
    usable = dict.fromkeys(name for tclsh in tclshs for name in tclsh.engines)
    for name in engines:
        if name not in usable:
            has = " or ".join(usable) or "nothing, see tclchan doctor"
            raise ValueError(f'engine "{name}" cannot be used here: must be {has}')


def _plot_title(machine: Machine, tclshs: list[Tclsh]) -> str:
    tcls = " and ".join(tclsh.patchlevel for tclsh in tclshs)
    return f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Tcl {tcls}"
