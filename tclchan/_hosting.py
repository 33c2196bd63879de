"""``tclchan httpd``: the command line, and who does what it says.

The process opens the port, gives up root's rights, and then either serves the site itself
(`_worker`), or has others do it and looks after them (`_supervisor`).
"""

from __future__ import annotations

import argparse

from . import _logs, _monitor
from ._httpd import MAX_PORT, MAX_SECONDS, SERVERS
from ._listeners import check_listener, open_listeners
from ._privileges import drop_privileges
from ._supervisor import Supervisor
from ._systemd import ServiceManager
from ._worker import serve_alone, serve_supervised

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8015
DEFAULT_GRACE_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tclchan httpd``."""
    parser.add_argument("--root", metavar="DIR", help="the directory to serve")
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help=f"the port to listen on, 0 for a free one (default: {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help=f"the address to listen on (default: {DEFAULT_ADDRESS}, reachable from this machine"
        " only)",
    )
    parser.add_argument("--server", choices=SERVERS, help=f"the web server (default: {SERVERS[0]})")
    parser.add_argument(
        "--tclhttpd",
        metavar="DIR",
        help="a tree of tclhttpd's sources; serves its own pages unless --root names others",
    )
    parser.add_argument(
        "--rc", metavar="FILE", help="a configuration file for tclhttpd, read after its own"
    )
    parser.add_argument(
        "--log-dir", metavar="DIR", help="keep the server's logs there (default: no logs are kept)"
    )
    parser.add_argument(
        "--access-log",
        metavar="FILE",
        help="append a line in the combined format for each answer; - is the standard output;"
        " SIGUSR1 opens the file anew",
    )
    _logs.add_arguments(parser)
    _monitor.add_arguments(parser, _port)
    parser.add_argument(
        "--idle-timeout",
        type=_seconds,
        default=0,
        metavar="SECONDS",
        help="end a connection whose client does nothing for so long (default: never)",
    )
    parser.add_argument(
        "--request-timeout",
        type=_seconds,
        default=0,
        metavar="SECONDS",
        help="how long a client may take to send a request (default: as long as it likes)",
    )
    parser.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="each connection begins with a header of the PROXY protocol, as HAProxy sends it",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="serve with N processes, which are replaced when they die and, one by one, on SIGHUP"
        " (default: with this process alone)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULT_GRACE_SECONDS,
        metavar="SECONDS",
        help="after SIGTERM or SIGINT, finish what is being answered for so long at most; a second"
        " signal ends it at once (default: %(default)g)",
    )
    parser.add_argument(
        "--max-connections",
        type=_positive,
        metavar="N",
        help="have at most N connections at a time, in each worker; others wait (default: as many"
        " as there are descriptors)",
    )
    parser.add_argument("--user", metavar="NAME", help="the user to be once the port is open")
    parser.add_argument(
        "--group", metavar="NAME", help="the group to be then (default: that of the user)"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument(
        "arguments", nargs="*", metavar="-- ARG", help="further arguments of tclhttpd"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or until the server's own code calls ``exit``."""
    with _logs.logging_to(args.log_file, args.log_format, args.log_level):
        return serve_supervised(args) if args.worker else _serve(args)


def _serve(args: argparse.Namespace) -> int:
    manager = ServiceManager.from_environment()
    if listeners := manager.http_sockets():
        check_listener(listeners, args.port, args.address)
    else:
        port = DEFAULT_PORT if args.port is None else args.port
        listeners = open_listeners(args.address or DEFAULT_ADDRESS, port)
    drop_privileges(args.user, args.group)
    if args.workers is None:
        return serve_alone(args, listeners, manager)
    return Supervisor(args, listeners, manager).run()


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f'bad port "{text}": must be 0 to {MAX_PORT}')


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f'bad number "{text}": must be 1 or more')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= MAX_SECONDS:
        return seconds
    raise argparse.ArgumentTypeError(f'bad time "{text}": must be 0 to {MAX_SECONDS} seconds')
