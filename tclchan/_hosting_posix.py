"""Who serves a site on POSIX: this process, or others that it looks after.

The process opens the port, gives up root's rights, and then either serves the site itself
(`_worker`), or has others do it (`_supervisor`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence

from . import _monitor
from ._control import MOST_CHARACTERS, Control, Message
from ._httpd import DEFAULT_ADDRESS, DEFAULT_PORT, Site
from ._interp import Interp
from ._listeners import check_listener, open_listeners, refuse
from ._privileges import drop_privileges
from ._process import WORKER_VARIABLE
from ._supervisor import Supervisor
from ._systemd import ServiceManager
from ._worker import Worker, announce
from .errors import TclchanError

log = logging.getLogger("tclchan.httpd")

_NO_RELOAD = "SIGHUP is for a reload, which takes --workers: this process goes on"


def add_process_arguments(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    """Declare the arguments that are about processes; *positive* reads a positive number."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="serve with N processes, which are replaced when they die and, one by one, on SIGHUP"
        " (default: with this process alone)",
    )
    parser.add_argument("--user", metavar="NAME", help="the user to be once the port is open")
    parser.add_argument(
        "--group", metavar="NAME", help="the group to be then (default: that of the user)"
    )


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal ends that, or the server's own code; return the exit code."""
    if passed := os.environ.pop(WORKER_VARIABLE, ""):
        descriptors, _, args.work_dir = passed.partition(":")
        return _serve_supervised(args, [int(fd) for fd in descriptors.split(",")])
    manager = ServiceManager.from_environment()
    if listeners := manager.http_sockets():
        check_listener(listeners, args.port, args.address)
    else:
        port = DEFAULT_PORT if args.port is None else args.port
        address = DEFAULT_ADDRESS if args.address is None else args.address
        listeners = open_listeners(address, port)
    drop_privileges(args.user, args.group)
    if args.workers is None:
        return _serve_alone(args, listeners, manager)
    return Supervisor(args, listeners, manager).run()


def _serve_alone(
    args: argparse.Namespace, listeners: Sequence[socket.socket], manager: ServiceManager
) -> int:
    """Serve in this process, without a supervisor; see `Worker.run`."""

    def draining() -> None:
        manager.notify("STOPPING=1")
        if not manager.sockets:
            refuse(listeners)

    def ready(site: Site, interp: Interp) -> None:
        announce(str(site), metrics)
        manager.notify("READY=1", f"STATUS={site}")
        if manager.watchdog_seconds:
            period = round(500 * manager.watchdog_seconds)

            def beat() -> None:
                interp.call("after", period, "::tclchan::beat")
                manager.notify("WATCHDOG=1")

            interp.command("::tclchan::beat", beat)
            beat()

    signal.signal(signal.SIGHUP, lambda number, frame: log.warning("%s", _NO_RELOAD))
    signal.siginterrupt(signal.SIGHUP, False)
    worker = Worker(args, *_place(args, listeners), listeners, draining)
    with _monitor.monitoring_if_asked(args, worker.snapshots) as metrics:
        return worker.run(ready)


def _serve_supervised(args: argparse.Namespace, descriptors: Sequence[int]) -> int:
    """Serve with what the supervisor passed: the line to it, and the listeners."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    sock, *listeners = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    worker = Worker(args, *_place(args, listeners), listeners)
    started = False

    def received(message: Message) -> None:
        if "stats" in message:
            control.send({"stats": worker.snapshots()[1]})
        if "drain" in message:
            worker.drain(**message["drain"])

    control = Control(sock, received, lost=worker.drain)

    def ready(site: Site, interp: Interp) -> None:
        nonlocal started
        started = True
        control.watch(interp.tk)
        control.send({"ready": {**dataclasses.asdict(site), "root": str(site.root)}})

    # What a terminal that hangs up tells all of its processes is the supervisor's to act on. A
    # handler, since programs that the site starts would inherit that the signal is ignored.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    try:
        return worker.run(ready)
    except (TclchanError, OSError, ValueError) as error:
        if started:
            raise
        control.send({"failed": str(error)[:MOST_CHARACTERS]})
        return 1


def _place(args: argparse.Namespace, listeners: Sequence[socket.socket]) -> tuple[str, int]:
    """Where to listen: what the user calls the address, and the port that has been opened."""
    address, port = listeners[0].getsockname()[:2]
    return args.address or address, port
