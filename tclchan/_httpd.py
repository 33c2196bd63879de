"""`serving`: an installed Tcl web server, unmodified, on ``socket2``.

The server runs in an interpreter whose ``socket`` is ``socket2``. ``tcl/httpd_SERVER.tcl`` beside
this module starts and stops it, and says what there is to know about that one server.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ._interp import Interp, check_name
from ._platform import system
from .errors import HttpdError, ScriptError

SERVERS = ("xotcl", "tcllib", "tclhttpd")
DEFAULT_ADDRESS = "127.0.0.1"
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
    address: str = DEFAULT_ADDRESS,
    server: str | None = None,
    tclhttpd: str | os.PathLike[str] | None = None,
    rc: str | os.PathLike[str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    access_log: str | os.PathLike[str] | None = None,
    arguments: Sequence[str] = (),
    idle_timeout: float = 0,
    request_timeout: float = 0,
    proxy_protocol: bool = False,
    work_dir: str | os.PathLike[str] | None = None,
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
            *tclhttpd* is given, else xotcl, or on Windows tcllib.
        tclhttpd: a tree of tclhttpd's sources, which is not written to.
        rc: a configuration file for tclhttpd, read after its own.
        log_dir: where the server's logs go; without one they are not kept. tcllib has none.
        access_log: a file to which a line in Apache's combined format is appended for each answer;
            ``"-"`` is the standard output. Once the file has been renamed,
            ``interp.call("::tclchan::access::reopen")`` goes on in a new one.
        arguments: more words for tclhttpd's command line.
        idle_timeout: seconds after which a connection is ended whose client does nothing while it
            is waited for; 0: it may be silent for ever. The driver's ``-idletimeout``.
        request_timeout: seconds within which a client has to send a request, and one more for each
            1,000 bytes of it; 0: it may take its time. The driver's ``-requesttimeout``.
        proxy_protocol: whether each connection begins with a header of the PROXY protocol, which
            tells the address of the client; then only proxies may be able to connect.
        work_dir: where the server's temporary files go (default: that of `tempfile`).

    Yields:
        What is served, and where.

    Raises:
        HttpdError: the site cannot be served; the message says why and what to do about it.
    """
    server = server or (system.DEFAULT_SERVER if tclhttpd is None else "tclhttpd")
    if server not in SERVERS:
        raise HttpdError(f'unknown server "{server}": must be {", ".join(SERVERS)}')
    if not address:
        raise HttpdError("the address is empty")
    if not 0 <= port <= MAX_PORT:
        raise HttpdError(f"bad port {port}: must be 0 to {MAX_PORT} (0 takes a free one)")
    for seconds in (idle_timeout, request_timeout):
        if not 0 <= seconds <= MAX_SECONDS:
            raise HttpdError(f"bad time-out {seconds}: must be 0 to {MAX_SECONDS} seconds")
    if server == "tclhttpd":
        tree = _tclhttpd_tree(tclhttpd)
    elif rc is not None or arguments or tclhttpd is not None:
        raise HttpdError(f"{server} takes no configuration file, tree or arguments: tclhttpd does")
    else:
        tree = None
    if log_dir and server == "tcllib":
        raise HttpdError("tcllib keeps no logs of its own: there is --access-log FILE")
    if root is None and tree is None:
        raise HttpdError("which directory is to be served? Name it with --root DIR")
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="tclchan-httpd-", dir=work_dir)
        work = stack.enter_context(temporary)
        options = {
            "work_dir": work,
            "log_dir": "" if log_dir is None else _directory("log directory", log_dir),
            "tclhttpd": str(tree or ""),
            "rc": "" if rc is None else _file("configuration file", rc),
            "arguments": tuple(arguments),
        }
        access = access_log if access_log in (None, "-") else _absolute("access log", access_log)
        directory = "" if root is None else _directory("root", root)
        try:
            interp.call("source", str(TCL_DIR / "httpd.tcl"))
            interp.call("::tclchan::httpd::begin", server)
            stack.callback(interp.call, "::tclchan::httpd::end")
            interp.call("source", str(TCL_DIR / f"httpd_{server}.tcl"))
            if access is not None:
                interp.call("source", str(TCL_DIR / "access.tcl"))
                interp.call("::tclchan::access::start", str(access))
                interp.call("source", str(TCL_DIR / f"access_{server}.tcl"))
            words = tuple(word for option in options.items() for word in option)
            before = _listeners(interp)
            launch = ("::tclchan::httpd::launch", directory, address, str(port), words)
            actual = int(interp.call(*launch))
            if _listeners(interp) <= before:
                raise HttpdError(
                    "socket is Tcl's own in this interpreter: make it with"
                    " Interp(replace_socket=True)"
                )
            interp.call(
                "::tclchan::httpd::configure_listeners",
                *("-idletimeout", str(math.ceil(idle_timeout * 1000))),
                *("-requesttimeout", str(math.ceil(request_timeout * 1000))),
                *("-proxyprotocol", "require" if proxy_protocol else "off"),
            )
        except ScriptError as error:
            raise HttpdError(_start_error(error, server, address, port)) from error
        yield Site(
            Path(directory or f"{tree}/htdocs"),
            address,
            actual,
            server,
            str(interp.call("::iocp::engine")),
        )


def _listeners(interp: Interp) -> set[str]:
    """The driver's channels that listen."""
    return {*interp.eval("::tclchan::httpd::listeners").split()}


def _absolute(what: str, path: str | os.PathLike[str]) -> Path:
    if not os.fspath(path):
        raise HttpdError(f"the name of the {what} is empty")
    absolute = Path(path).absolute()
    try:
        check_name(what, str(absolute))
    except ValueError as error:
        raise HttpdError(str(error)) from None
    return absolute


def _directory(what: str, path: str | os.PathLike[str]) -> str:
    directory = _absolute(what, path)
    if not directory.is_dir():
        state = "is not a directory" if directory.exists() else "does not exist"
        raise HttpdError(f'{what} "{os.fspath(path)}" {state}')
    if not os.access(directory, os.R_OK | os.X_OK):
        raise HttpdError(f'{what} "{os.fspath(path)}" cannot be read: permission denied')
    return str(directory)


def _file(what: str, path: str | os.PathLike[str]) -> str:
    file = _absolute(what, path)
    if not file.is_file():
        raise HttpdError(f'{what} "{os.fspath(path)}" is not a file')
    return str(file)


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
