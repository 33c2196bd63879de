"""``tclchan httpd``: an installed Tcl web server, unmodified, on ``socket2``.

The server runs in an interpreter whose ``socket`` is ``socket2``. ``tcl/httpd_SERVER.tcl`` beside
this module starts and stops it, and says what there is to know about that one server.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ._interp import Interp
from .errors import HttpdError, ScriptError

SERVERS = ("xotcl", "tcllib", "tclhttpd")
DEFAULT_PORT = 8015
MAX_PORT = 65535
MAX_SECONDS = 86400
TCL_DIR = Path(__file__).with_name("tcl")


@dataclass(frozen=True)
class Site:
    """A site that is being served. As a string, it is the line that ``tclchan httpd`` prints.

    Attributes:
        root: the directory that is served.
        address: the address that the server listens on.
        port: its port, also when a free one was asked for.
        server: the name of the server: ``"xotcl"``, ``"tcllib"``, or ``"tclhttpd"``.
        engine: the name of the engine under it.
    """

    root: Path
    address: str
    port: int
    server: str
    engine: str

    @property
    def url(self) -> str:
        """The address of its first page."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}/"

    def __str__(self) -> str:
        return f"serving {self.root} at {self.url} ({self.server} on {self.engine})"


@contextmanager
def serving(
    interp: Interp,
    root: str | os.PathLike[str] | None = None,
    *,
    port: int = 0,
    address: str = "127.0.0.1",
    server: str | None = None,
    tclhttpd: str | os.PathLike[str] | None = None,
    rc: str | os.PathLike[str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    arguments: Sequence[str] = (),
    idle_timeout: float = 0,
    request_timeout: float = 0,
    proxy_protocol: bool = False,
) -> Iterator[Site]:
    """Serve *root* in *interp* for the length of a ``with`` block.

    The site is answered while the event loop of *interp* runs (``interp.run()``). When the block
    ends, or the server fails to start, the listeners, the connections and the server's files are
    closed, and its timers are cancelled.

    An interpreter serves one site at a time. xotcl and tcllib can be served in it again; tclhttpd
    cannot, since its commands keep what they know of their site. It runs CGI programs with
    ``2> /dev/stdout``, which empties a standard output that is a regular file: ``tclchan httpd``
    puts a pipe in between, a program that calls this has to do so itself.

    Args:
        interp: an interpreter made with ``replace_socket=True``.
        root: the directory to serve; only *tclhttpd* has one of its own.
        port: the port to listen on, at most 65535; 0 takes a free one.
        address: the address to listen on.
        server: ``"xotcl"``, ``"tcllib"``, or ``"tclhttpd"``. Without a name it is tclhttpd if
            *tclhttpd* is given, else xotcl.
        tclhttpd: a tree of tclhttpd's sources, which is not written to.
        rc: a configuration file for tclhttpd, read after its own.
        log_dir: where the server's logs go; without one they are not kept.
        arguments: more words for tclhttpd's command line.
        idle_timeout: seconds after which a connection is ended whose client does nothing while it
            is waited for; 0: it may be silent for ever. The driver's ``-idletimeout``.
        request_timeout: seconds within which a client has to send a request, and one more for each
            1,000 bytes of it; 0: it may take its time. The driver's ``-requesttimeout``.
        proxy_protocol: whether each connection begins with a header of the PROXY protocol, which
            tells the address of the client; then only proxies may be able to connect.

    Yields:
        What is served, and where.

    Raises:
        HttpdError: the site cannot be served; the message says why and what to do about it.
    """
    server = server or ("tclhttpd" if tclhttpd else SERVERS[0])
    if server not in SERVERS:
        raise HttpdError(f'unknown server "{server}": must be {", ".join(SERVERS)}')
    if not 0 <= port <= MAX_PORT:
        raise HttpdError(f"bad port {port}: must be 0 to {MAX_PORT} (0 takes a free one)")
    for seconds in (idle_timeout, request_timeout):
        if not 0 <= seconds <= MAX_SECONDS:
            raise HttpdError(f"bad time-out {seconds}: must be 0 to {MAX_SECONDS} seconds")
    if server == "tclhttpd":
        tree = _tclhttpd_tree(tclhttpd)
    elif rc or arguments or tclhttpd:
        raise HttpdError(f"{server} takes no configuration file, tree or arguments: tclhttpd does")
    else:
        tree = None
    if root is None and tree is None:
        raise HttpdError("which directory is to be served? Name it with --root DIR")
    with ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="tclchan-httpd-"))
        options = {
            "work_dir": work,
            "log_dir": _directory("log directory", log_dir) if log_dir else "",
            "tclhttpd": str(tree or ""),
            "rc": _file("configuration file", rc) if rc else "",
            "arguments": tuple(arguments),
        }
        directory = _directory("root", root) if root is not None else ""
        try:
            interp.call("source", str(TCL_DIR / "httpd.tcl"))
            interp.call("::tclchan::httpd::begin", server)
            stack.callback(interp.call, "::tclchan::httpd::end")
            interp.call("source", str(TCL_DIR / f"httpd_{server}.tcl"))
            words = tuple(word for option in options.items() for word in option)
            actual = interp.call("::tclchan::httpd::launch", directory, address, str(port), words)
            interp.call(
                "::tclchan::httpd::configure_listeners",
                *("-idletimeout", str(round(idle_timeout * 1000))),
                *("-requesttimeout", str(round(request_timeout * 1000))),
                *("-proxyprotocol", "require" if proxy_protocol else "off"),
            )
        except ScriptError as error:
            raise HttpdError(_start_error(error, server, address, port)) from error
        yield Site(
            Path(directory or f"{tree}/htdocs"),
            address,
            int(actual),
            server,
            str(interp.call("::iocp::engine")),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tclchan httpd``."""
    parser.add_argument("--root", metavar="DIR", help="the directory to serve")
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="N",
        help="the port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        metavar="ADDR",
        help="the address to listen on (default: %(default)s, reachable from this machine only)",
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
        "arguments", nargs="*", metavar="-- ARG", help="further arguments of tclhttpd"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or until the server's own code calls ``exit``."""
    # Interp.run has handlers of its own. This one is for the time before it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            Interp(engine=args.engine, notifier=args.notifier, replace_socket=True) as interp,
            serving(
                interp,
                args.root,
                port=args.port,
                address=args.address,
                server=args.server,
                tclhttpd=args.tclhttpd,
                rc=args.rc,
                log_dir=args.log_dir,
                arguments=args.arguments,
                idle_timeout=args.idle_timeout,
                request_timeout=args.request_timeout,
                proxy_protocol=args.proxy_protocol,
            ) as site,
        ):
            print(site, flush=True)
            if site.server == "tclhttpd":
                _keep_stdout_from_being_truncated()
            code = interp.run()
            if interp.stopped_by is not None:
                _ignore_more_signals()
            return code
    except KeyboardInterrupt:
        _ignore_more_signals()
        return 0


def _ignore_more_signals() -> None:
    """Let the end that a signal has begun take its course.

    The same signal may come again, from the terminal and from the program that started this one;
    in the last steps of Python's own end it would kill the process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _keep_stdout_from_being_truncated() -> None:
    """Put a pipe between a standard output that is a regular file and this process.

    tclhttpd runs CGI programs with ``2> /dev/stdout``, which opens that file anew and empties it.
    """
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return
    target = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)

    def pump() -> None:
        while chunk := os.read(reader, 65536):
            os.write(target, chunk)

    threading.Thread(target=pump, name="tclchan-stdout", daemon=True).start()


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f'bad port "{text}": must be 0 to {MAX_PORT}')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if 0 <= seconds <= MAX_SECONDS:
        return seconds
    raise argparse.ArgumentTypeError(f'bad time "{text}": must be 0 to {MAX_SECONDS} seconds')


def _directory(what: str, path: str | os.PathLike[str]) -> str:
    directory = Path(path).absolute()
    if not directory.is_dir():
        state = "is not a directory" if directory.exists() else "does not exist"
        raise HttpdError(f'{what} "{os.fspath(path)}" {state}')
    if not os.access(directory, os.R_OK | os.X_OK):
        raise HttpdError(f'{what} "{os.fspath(path)}" cannot be read: permission denied')
    return str(directory)


def _file(what: str, path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise HttpdError(f'{what} "{os.fspath(path)}" is not a file')
    return str(Path(path).absolute())


def _tclhttpd_tree(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        raise HttpdError("where is tclhttpd? Name a tree of its sources with --tclhttpd DIR")
    tree = Path(_directory("tclhttpd tree", path))
    for needed in ("bin/httpd.tcl", "bin/httpdthread.tcl", "bin/tclhttpd.rc", "lib/httpd.tcl"):
        if not (tree / needed).is_file():
            raise HttpdError(f'"{os.fspath(path)}" is not a tree of tclhttpd: it has no {needed}')
    return tree


def _start_error(error: ScriptError, server: str, address: str, port: int) -> str:
    """The cause out of a server's own account, which may hold a whole stack trace."""
    if found := re.search(r"couldn't open socket: [^\n]*", str(error)):
        return f"{found[0]} ({address} port {port})"
    return f"{server} does not start: {error}"
