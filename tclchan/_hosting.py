"""``tclchan httpd``: the command line. Who does what it says is another module for each system."""

from __future__ import annotations

import argparse
import sys

from . import _logs, _monitor
from ._httpd import DEFAULT_ADDRESS, DEFAULT_PORT, MAX_PORT, MAX_SECONDS, SERVERS
from ._platform import system

if sys.platform == "win32":
    from ._hosting_windows import add_process_arguments, serve
else:
    from ._hosting_posix import add_process_arguments, serve

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
    parser.add_argument(
        "--server", choices=SERVERS, help=f"the web server (default: {system.DEFAULT_SERVER})"
    )
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
        help="append a line in the combined format for each answer; - is the standard output"
        f"{system.REOPENING}",
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
    add_process_arguments(parser, _positive)
    parser.add_argument(
        "arguments", nargs="*", metavar="-- ARG", help="further arguments of tclhttpd"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or until the server's own code calls ``exit``."""
    system.put_reopening_off()
    with _logs.logging_to(args.log_file, args.log_format, args.log_level):
        return serve(args)


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
