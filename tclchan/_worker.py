"""One process that serves a site: on its own, or as one of several that have a supervisor."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from . import _logs
from ._attach import drain
from ._httpd import TCL_DIR, Site, serving
from ._interp import Interp
from ._platform import system
from ._snapshot import Snapshot, Snapshots, of_this_process

log = logging.getLogger("tclchan.httpd")

STOP_LULL_SECONDS = 0.2
"""So long a connection may wait for its next request while the server stops."""

CLOSE_SECONDS = 0.5
"""So long what is cut has for leaving."""


class Worker:
    """Serves the site that the command line names, until a signal, or its supervisor, ends that.

    The end is a drain: nothing more is accepted, what is being answered is finished, and each
    answer is the last one of its connection.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        address: str,
        port: int,
        listeners: Sequence[socket.socket] = (),
        draining: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one.

        Args:
            args: the command line.
            address: the address to listen on, or the name that the user has given to it.
            port: the port there; 0 takes a free one.
            listeners: sockets that listen there already; they stay the caller's.
            draining: is called when it has stopped accepting.
        """
        self._args = args
        self._address, self._port = address, port
        self._draining = draining
        self._listeners = listeners
        self._interp: Interp | None = None
        self._snapshots: Snapshots = dict
        self._deadline: float | None = None
        """When a drain that is under way ends."""
        self._timer: threading.Timer | None = None
        self._drained = False

    def run(self, ready: Callable[[Site, Interp], None]) -> int:
        """Serve.

        Args:
            ready: is called when the site is served, before the event loop runs.

        Returns:
            The exit code: 0, or that of an ``exit`` in the server's own code.

        Raises:
            TclchanError: the site cannot be served.
        """
        args = self._args
        # Interp.run has handlers of its own. These are for the time before it.
        for number in {*system.ENDING_SIGNALS} - {signal.SIGINT}:
            signal.signal(number, signal.default_int_handler)
        try:
            with Interp(engine=args.engine, notifier=args.notifier, replace_socket=True) as interp:
                self._interp = interp
                _logs.take_background_errors(interp)
                _logs.reopen_when_asked(interp)
                for listener in self._listeners:
                    interp.call("::iocp::inherit", listener.fileno())
                interp.command("::tclchan::drained", self._on_drained)
                if args.max_connections:
                    interp.call("source", str(TCL_DIR / "httpd_limit.tcl"))
                    interp.call("::tclchan::httpd::limit::set_to", args.max_connections)
                with serving(
                    interp,
                    args.root,
                    port=self._port,
                    address=self._address,
                    server=args.server,
                    tclhttpd=args.tclhttpd,
                    rc=args.rc,
                    log_dir=args.log_dir,
                    access_log=args.access_log,
                    arguments=args.arguments,
                    idle_timeout=args.idle_timeout,
                    request_timeout=args.request_timeout,
                    proxy_protocol=args.proxy_protocol,
                    work_dir=args.work_dir,
                ) as site:
                    self._snapshots = of_this_process(site.server, site.engine)
                    ready(site, interp)
                    if site.server == "tclhttpd":
                        _keep_stdout_from_being_truncated()
                    code = interp.run(drain=self.drain, patience=args.grace)
                    if interp.stopped_by is not None or self._deadline is not None:
                        _ignore_more_signals()
                if self._drained:
                    self._send_the_rest()
                if self._deadline is not None:
                    interp.close(seconds=CLOSE_SECONDS)
                log.info("ended with exit code %d", code)
                return code
        except KeyboardInterrupt:
            _ignore_more_signals()
            if self._deadline is None:
                self._draining()
            return 0
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def drain(self, grace: float | None = None, lull: float = STOP_LULL_SECONDS) -> None:
        """Begin to end; if that is under way, end no later than this call says.

        Args:
            grace: so many seconds from now, what is not finished is cut; by default what the
                command line says.
            lull: so many seconds a connection may wait for its next request, which is answered.
                A client that asks again and again never sees its connection close under it.
        """
        assert self._interp is not None
        grace = self._args.grace if grace is None else grace
        deadline = time.monotonic() + grace
        first = self._deadline is None
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
            if self._timer is not None:
                self._timer.cancel()
            # A thread, since a page may compute and not come back to the event loop.
            self._timer = threading.Timer(grace, self._interp.stop)
            self._timer.daemon = True
            with system.signals_blocked():
                self._timer.start()
        try:
            self._interp.call("::tclchan::httpd::drain", round(1000 * lull))
        finally:
            if first:
                self._draining()

    def snapshots(self) -> Mapping[int, Snapshot]:
        """What there is to know of this process, which is worker 1, once it serves.

        Any thread may ask.
        """
        return self._snapshots()

    def _send_the_rest(self) -> None:
        """Wait until clients have the end of their answers; not if a signal comes."""
        assert self._deadline is not None
        hurry = threading.Event()
        for number in system.ENDING_SIGNALS:
            signal.signal(number, lambda number, frame: hurry.set())
        while time.monotonic() < self._deadline and not hurry.is_set() and not drain(0.1):
            pass
        _ignore_more_signals()

    def _on_drained(self) -> None:
        assert self._interp is not None
        self._drained = True
        self._interp.stop()


def announce(*lines: str) -> None:
    """Tell the user, and the log, that there is a server."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a directory may have characters that a terminal has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    for line in filter(None, lines):
        log.info("%s", line)
        print(line, flush=True)


def _ignore_more_signals() -> None:
    """Let the end that a signal has begun take its course.

    The same signal may come again, from the terminal and from the program that started this one;
    in the last steps of Python's own end it would kill the process.
    """
    for number in system.ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _keep_stdout_from_being_truncated() -> None:
    """Put a pipe between a standard output that is a regular file and this process.

    tclhttpd runs CGI programs with ``2> /dev/stdout``, which opens that file anew and empties it.
    """
    sys.stdout.flush()
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return
    target = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)

    def pump() -> None:
        while chunk := os.read(reader, 65536):
            os.write(target, chunk)

    thread = threading.Thread(target=pump, name="tclchan-stdout", daemon=True)
    with system.signals_blocked():
        thread.start()
