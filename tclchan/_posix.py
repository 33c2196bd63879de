"""POSIX, for `_platform`: the names of `_windows`, with what they mean here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
from _tkinter import READABLE, TkappType
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DRIVER = "libiocpsock.so"
"""The file of the driver, in the directory of the package."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Those that ask a program to end."""

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}

DEFAULT_SERVER = "xotcl"
"""The web server if none is named."""

PRELUDE = ""
"""What every `Interp` evaluates at its beginning."""

REUSE_ADDRESS = True
"""Whether SO_REUSEADDR is what lets a server listen where one listened a moment ago."""

REOPENING = "; SIGUSR1 opens it anew"
"""For the help about a log: how it goes on in a new file."""


class Doorbell:
    """Has Tcl's event loop call a function while there is something to be read from a socket."""

    def __init__(
        self, tk: TkappType, sock: socket.socket, answer: Callable[[object, int], None]
    ) -> None:
        """Begin with that; to be called on the thread of *tk*. The socket stays the caller's."""
        self._sock = sock
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        tk.createfilehandler(sock, READABLE, answer)

    def wait(self) -> None:
        """Wait until there is something. A thread of the caller's does this, again and again."""
        self._poller.poll()

    def ring(self) -> None:
        """Tell Tcl of it, from any thread. Here its event loop watches the socket itself."""

    def close(self, tk: TkappType) -> None:
        """Call the function no more; to be called on the thread of *tk*."""
        tk.deletefilehandler(self._sock)


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Have *function* called in every child that this process forks."""
    os.register_at_fork(after_in_child=function)


_getenv = ctypes.CDLL(None).getenv
_getenv.restype = ctypes.c_char_p


def getenv(name: str) -> str | None:
    """The variable that code in C finds; `os.environ` does not know what Tcl has set since."""
    value: bytes | None = _getenv(os.fsencode(name))
    return None if value is None else os.fsdecode(value)


def raise_descriptor_limit() -> None:
    """Let a server have as many connections as the system lets this process have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limits() -> dict[str, str]:
    """What a process may have of what the driver takes, in words."""
    try:
        backlog = Path("/proc/sys/net/core/somaxconn").read_text().strip()
    except OSError:
        backlog = ""
    return {
        "open descriptors": _limit(resource.RLIMIT_NOFILE),
        "locked memory": _limit(resource.RLIMIT_MEMLOCK),
        "listen backlog": backlog,
    }


def _limit(which: int) -> str:
    soft, hard = (
        "unlimited" if n == resource.RLIM_INFINITY else str(n) for n in resource.getrlimit(which)
    )
    return f"soft {soft}, hard {hard}"


@contextmanager
def standard_input() -> Iterator[str]:
    """The path of a file that has what comes from the standard input."""
    yield "/dev/stdin"


def on_reopening(function: Callable[[], object]) -> None:
    """Have *function* called when the logs have been renamed; on the main thread only."""
    signal.signal(signal.SIGUSR1, lambda number, frame: function())
    # What the signal interrupts goes on.
    signal.siginterrupt(signal.SIGUSR1, False)
    put_reopening_off(False)


def put_reopening_off(off: bool = True) -> None:
    """Let the signal for that wait until there is a handler: it would end the process.

    It waits in the processes that are started meanwhile, too.
    """
    how = signal.SIG_BLOCK if off else signal.SIG_UNBLOCK
    signal.pthread_sigmask(how, {signal.SIGUSR1})


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Have no signal go to the threads that are started in this block, but to the main thread.

    A handler that has begun in another thread may go on when the main thread has come to Python's
    end, which CPython 3.11 does not survive. Faults stay with the thread that makes them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
