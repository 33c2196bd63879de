"""Who serves a site on Windows: this process, whose Tcl opens the port.

There are no other processes that could listen with the same socket, and no signal for a reload. The
account that serves is chosen by who starts the process, and ports below 1,024 are free for all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from . import _monitor
from ._httpd import DEFAULT_ADDRESS, DEFAULT_PORT
from ._worker import Worker, announce


def add_process_arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    """Have what can be said about processes elsewhere refused with the reason."""
    one_process = _refuse("not available on Windows: one process serves, start it without")
    account = _refuse("not available on Windows: start the process under that account")
    parser.add_argument("--workers", type=one_process, help=argparse.SUPPRESS)
    parser.add_argument("--user", type=account, help=argparse.SUPPRESS)
    parser.add_argument("--group", type=account, help=argparse.SUPPRESS)


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal ends that, or the server's own code; return the exit code."""
    port = DEFAULT_PORT if args.port is None else args.port
    worker = Worker(args, DEFAULT_ADDRESS if args.address is None else args.address, port)
    with _monitor.monitoring_if_asked(args, worker.snapshots) as metrics:
        return worker.run(lambda site, interp: announce(str(site), metrics))


def _refuse(reason: str) -> Callable[[str], NoReturn]:
    def refuse(text: str) -> NoReturn:
        raise argparse.ArgumentTypeError(reason)

    return refuse
