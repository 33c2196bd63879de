"""Outer marks: servers without Tcl that give the same answers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError
from .load import LOCALHOST
from .server import Server, listening_at, serving

_HERE = Path(__file__).parent
BODY = "x" * 128
# Those that need no installation, for files.
FILE_MARKS = ("sendfile", "read+send")

# One worker, which is the process itself: a worker outlives a master that is killed.
_NGINX = """\
daemon off;
master_process off;
worker_rlimit_nofile {descriptors};
user {user};
error_log stderr crit;
pid {work}/pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout {keepalive};
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen {address}:{port} reuseport backlog=4096;
        location / {{ return 200 "{body}"; }}
    }}
}}
"""


@dataclass(frozen=True)
class Mark:
    """A server without Tcl: ``floor``, ``nginx``, ``uvicorn``, ``sendfile`` or ``read+send``.

    Attributes:
        name: which of them.
        core: the core of the machine that it is pinned to.
        descriptors: how many files a process may have open.
    """

    name: str
    core: int | None
    descriptors: int

    @property
    def is_core(self) -> bool:
        """It is compared to Tcl's own sockets, as all are."""
        return False

    def serve_pages(self, keepalive: bool) -> AbstractContextManager[Server]:
        """Answer every request with `BODY`, over one connection or over one for each."""
        if self.name == "nginx":
            return _nginx(self, keepalive)
        if self.name == "floor":
            return serving([str(_HERE / "floor"), "keepalive" if keepalive else "close"], self.core)
        return serving([sys.executable, "-P", str(_HERE / "asgi.py"), str(int(keepalive))],
                       self.core)  # fmt: skip

    def serve_file(self, path: Path, buffer_size: int) -> AbstractContextManager[Server]:
        """Answer every request with a file, and close. Without sendfile(2), by buffers."""
        command = [sys.executable, "-P", str(_HERE / "download.py"), str(path)]
        if self.name != "sendfile":
            command.append(str(buffer_size))
        return serving(command, self.core)


def check_installed(name: str) -> None:
    """Raise `BenchError` if a mark cannot be run here."""
    if name == "nginx":
        if _nginx_program() is None:
            raise BenchError('nginx is not installed: "apt-get install nginx" does that')
    elif name == "uvicorn":
        needed = [m for m in ("uvicorn", "uvloop", "httptools") if not importlib.util.find_spec(m)]
        if needed:
            what = " ".join(needed)
            raise BenchError(f'not installed for uvicorn: "pip install {what}" does that')
    elif name != "floor":
        raise BenchError(f'unknown server "{name}": --with takes floor, nginx and uvicorn')


def _nginx_program() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def _nginx(mark: Mark, keepalive: bool) -> Iterator[Server]:
    program = _nginx_program()
    assert program is not None
    # nginx cannot choose a free port. This socket holds one for it, without listening.
    with tempfile.TemporaryDirectory(prefix="tclchan-bench-") as work, socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOCALHOST, 0))
        port: int = holder.getsockname()[1]
        config = Path(work, "nginx.conf")
        config.write_text(
            _NGINX.format(
                work=work,
                user="root" if os.geteuid() == 0 else "nobody",
                descriptors=mark.descriptors,
                # It closes kept-alive ones when only a sixteenth is left.
                connections=2 * mark.descriptors,
                keepalive=600 if keepalive else 0,
                address=LOCALHOST,
                port=port,
                body=BODY,
            )
        )
        command = [program, "-p", work, "-e", "stderr", "-c", str(config)]
        with listening_at(command, mark.core, port, _accepts) as server:
            yield server


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((LOCALHOST, port), 1.0):
            return True
    except OSError:
        return False
