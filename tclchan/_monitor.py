"""The port on which ``tclchan httpd`` tells how it does: for Prometheus, and as a page.

    /metrics              the metrics, in Prometheus' text format or in OpenMetrics
    /tclchan/             a page that draws them, live
    /tclchan/stats.json   what the page asks for

It is a small server of its own, in threads that never touch Tcl: they read counters that any thread
may read, and Tcl's thread does not wait for them.
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ._build_config import VERSION
from ._httpd import DEFAULT_ADDRESS
from ._platform import system
from ._snapshot import Snapshots
from .errors import HttpdError

_INSTALL = 'prometheus_client is not installed: "pip install tclchan[metrics]" does that'
_PAGE = Path(__file__).with_name("page.html")
# The page holds all that it needs, and asks for nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)
_CLIENT_SECONDS = 10.0
_STOP_SECONDS = 0.1

_logger = logging.getLogger("tclchan.metrics")


@contextmanager
def monitoring(address: str, port: int, snapshots: Snapshots) -> Iterator[str]:
    """Answer on a port of its own for the length of a ``with`` block.

    Args:
        address: the address to listen on.
        port: the port; 0 takes a free one.
        snapshots: called, in a thread, for each answer.

    Yields:
        The address of the metrics as a URL.

    Raises:
        HttpdError: prometheus_client is not installed, or the address cannot be listened on.
    """
    if not address:
        raise HttpdError("the address for the metrics is empty")
    application = _application(snapshots)
    try:
        server = _Server((address, port), _Handler)
    except OSError as error:
        raise HttpdError(
            f"couldn't open socket: {(error.strerror or str(error)).lower()} "
            f"({address} port {port}, for the metrics)"
        ) from error
    server.set_app(application)
    thread = threading.Thread(
        target=server.serve_forever, args=(_STOP_SECONDS,), name="tclchan-metrics", daemon=True
    )
    with system.signals_blocked():
        thread.start()
    try:
        host = f"[{address}]" if ":" in address else address
        yield f"http://{host}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def monitoring_if_asked(args: argparse.Namespace, snapshots: Snapshots) -> Iterator[str]:
    """Do so if the command line says it.

    Yields:
        A line for the user; empty if there is nothing to tell.
    """
    if args.metrics is None:
        if args.metrics_address is not None:
            raise HttpdError("--metrics-address takes --metrics PORT")
        yield ""
        return
    address = DEFAULT_ADDRESS if args.metrics_address is None else args.metrics_address
    with monitoring(address, args.metrics, snapshots) as url:
        yield f"metrics at {url}"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = system.REUSE_ADDRESS

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which looks the name of the address up and may wait for that.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a client went away: %s", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug(format, *args)


def _application(snapshots: Snapshots) -> WSGIApplication:
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app

        from ._metrics import WorkerCollector, process_metrics
    except ImportError:
        raise HttpdError(_INSTALL) from None
    registry = CollectorRegistry()
    registry.register(WorkerCollector(snapshots))
    metrics: WSGIApplication = make_wsgi_app(registry)
    page = _PAGE.read_bytes()

    def stats() -> bytes:
        workers = {
            number: {
                **worker,
                "process": {
                    sample.name.removeprefix("tclchan_process_"): sample.value
                    for metric in process_metrics(worker["pid"])
                    for sample in metric.samples
                },
            }
            for number, worker in sorted(snapshots().items())
        }
        answer = {"version": VERSION, "time": time.time(), "workers": workers}
        return json.dumps(answer).encode()

    answers: dict[str, tuple[str, Callable[[], bytes]]] = {
        "/tclchan/": ("text/html; charset=utf-8", lambda: page),
        "/tclchan/stats.json": ("application/json", stats),
    }

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics" and environ["REQUEST_METHOD"] == "GET":
            return metrics(environ, start_response)
        headers = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
        status, body = HTTPStatus.OK, b""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or path == "/metrics":
            status = HTTPStatus.METHOD_NOT_ALLOWED
            headers.append(("Allow", "GET" if path == "/metrics" else "GET, HEAD"))
        elif path in answers:
            media, answer = answers[path]
            body = answer()
            headers += [("Content-Type", media), ("Content-Security-Policy", _POLICY)]
        elif path in ("/", "/tclchan"):
            status = HTTPStatus.FOUND
            headers.append(("Location", "/tclchan/"))
        else:
            status = HTTPStatus.NOT_FOUND
        headers.append(("Content-Length", str(len(body))))
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return respond(environ, start_response)
        except Exception:
            _logger.exception("no answer for %s", environ.get("PATH_INFO"))
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            start_response(f"{status.value} {status.phrase}", [("Content-Length", "0")])
            return []

    return application


def add_arguments(parser: argparse.ArgumentParser, port: Callable[[str], int]) -> None:
    """Declare the arguments that are about the metrics; *port* reads a port."""
    parser.add_argument(
        "--metrics",
        type=port,
        metavar="PORT",
        help="tell Prometheus how the server does, at http://127.0.0.1:PORT/metrics, and draw it at"
        " /tclchan/; 0 takes a free port",
    )
    parser.add_argument(
        "--metrics-address",
        metavar="ADDR",
        help=f"the address to do so on (default: {DEFAULT_ADDRESS}, reachable from this machine"
        " only)",
    )
