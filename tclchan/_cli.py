"""The console command ``tclchan``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from . import _doctor, _hosting
from ._attach import NOTIFIERS, library_dir
from ._build_config import VERSION
from ._interp import Interp
from ._platform import system
from .errors import ScriptError, TclchanError

if sys.platform != "win32":
    from .bench import cli as _bench


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, or that of the process, and return the exit code."""
    args = parse(sys.argv[1:] if argv is None else argv)
    if args.raise_limit:
        system.raise_descriptor_limit()
    try:
        code: int = args.function(args)
    except ScriptError as error:
        print(error.errorinfo, file=sys.stderr)
        return 1
    except (TclchanError, OSError) as error:
        print(f"tclchan: error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"tclchan: error: {error}", file=sys.stderr)
        return 2
    return code


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line *argv* says; ``words`` are what stands behind the command's name."""
    args = _parser().parse_args(argv)
    args.words = list(argv[1:])
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tclchan", description="Tcl sockets in the completion style: socket2."
    )
    parser.set_defaults(raise_limit=False)
    parser.add_argument("--version", action="version", version=f"tclchan {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    httpd = commands.add_parser(
        "httpd", help="serve a directory with a Tcl web server on socket2", allow_abbrev=False
    )
    _hosting.add_arguments(httpd)
    httpd.set_defaults(function=_hosting.main, raise_limit=True, work_dir=None)

    run = commands.add_parser(
        "run",
        help="run a Tcl script, as a tclsh that has the driver",
        description="Run a Tcl script as a tclsh does, with the driver loaded. The soft limit on "
        "open descriptors is raised to the hard one. SIGINT and SIGTERM end the script; the exit "
        "code is then 128 and the number of the signal.",
    )
    run.add_argument(
        "--replace-socket",
        action="store_true",
        help="make socket be socket2; the core's is tcl_core_socket then",
    )
    run.add_argument("script", metavar="SCRIPT", help='the file, or "-" for standard input')
    words = run.add_argument(
        "args", metavar="ARG", nargs=argparse.REMAINDER, help="words for its argv"
    )
    words.required = False  # Or they are said to be missing, where SCRIPT is.
    run.set_defaults(function=_run_script, raise_limit=True)

    for command in (httpd, run):
        command.add_argument(
            "--engine", default="auto", help="the engine to use, see doctor (default: %(default)s)"
        )
        command.add_argument(
            "--notifier",
            choices=NOTIFIERS,
            default="auto",
            help="what Tcl's event loop waits with: the engine (ring), or Tcl's own notifier (tcl);"
            " auto is the former where possible (default: %(default)s)",
        )

    doctor = commands.add_parser(
        "doctor", help="say which engines can be used here, why not the others, and what to do"
    )
    doctor.add_argument("--json", action="store_true", help="say it in JSON")
    doctor.set_defaults(function=_doctor.main)

    if sys.platform != "win32":
        bench = commands.add_parser(
            "bench", help="measure socket2 beside socket, under the same load"
        )
        _bench.add_arguments(bench)
        bench.set_defaults(function=_bench.main)

    path = commands.add_parser("path", help="print the directory to add to a tclsh's auto_path")
    path.set_defaults(function=_print_path)
    return parser


def _run_script(args: argparse.Namespace) -> int:
    with Interp(
        engine=args.engine,
        notifier=args.notifier,
        replace_socket=args.replace_socket,
        argv0=args.script,
        argv=args.args,
    ) as interp:
        with system.standard_input() if args.script == "-" else nullcontext(args.script) as path:
            code = interp.source(path)
        return code if interp.stopped_by is None else 128 + interp.stopped_by


def _print_path(args: argparse.Namespace) -> int:
    print(library_dir().as_posix())
    return 0
