"""Windows, for `_platform`: the names of `_posix`, with what they mean here."""

from __future__ import annotations

import ctypes
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
from _tkinter import READABLE, TkappType
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ._ffi import lib

assert sys.platform == "win32"

DRIVER = "iocpsock.dll"
"""The file of the driver, in the directory of the package."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGBREAK, signal.SIGTERM)
"""Those that ask a program to end. SIGBREAK is the end of the console, and of the session, too."""

DEFAULT_SERVER = "tcllib"
"""The web server if none is named: there is no XOTcl but what one builds oneself."""

PRELUDE = r"""
# Python tells Tcl where its library is only while it makes an interpreter itself. Interpreters that
# a script makes look for it, too; programs that it runs may be of another Tcl.
proc ::tclchan::tell_library {command op} {
    set ::env(TCL_LIBRARY) $::tcl_library
}
proc ::tclchan::tell_no_library {command code result op} {
    unset -nocomplain ::env(TCL_LIBRARY)
}
if {![info exists env(TCL_LIBRARY)]} {
    trace add execution ::interp enter ::tclchan::tell_library
    trace add execution ::interp leave ::tclchan::tell_no_library
}
"""
"""What every `Interp` evaluates at its beginning."""

REUSE_ADDRESS = False
"""SO_REUSEADDR would let two servers listen on one port; nobody needs it to listen there anew."""

REOPENING = ""
"""For the help about a log: a file that is open cannot be renamed."""

_MAX_VARIABLE = 32768
_WOKEN = "::tclchan::woken"


class Doorbell:
    """Has Tcl's event loop call a function while there is something to be read from a socket.

    Tcl cannot watch a socket of Python's: it is told, through the event queue of its thread.
    """

    def __init__(
        self, tk: TkappType, sock: socket.socket, answer: Callable[[object, int], None]
    ) -> None:
        """Begin with that; to be called on the thread of *tk*. The socket stays the caller's."""
        self._sock = sock
        self._thread = lib.TclchanThread()
        self._addr = tk.interpaddr()
        self._lock = threading.RLock()
        """Held to ring, so that nobody does after the end. A signal handler may ring meanwhile."""
        self._closed = False
        tk.createcommand(_WOKEN, lambda: answer(sock, READABLE))

    def wait(self) -> None:
        """Wait until there is something. A thread of the caller's does this, again and again."""
        select.select([self._sock], [], [])

    def ring(self) -> None:
        """Tell Tcl of it, from any thread."""
        with self._lock:
            if not self._closed:
                lib.TclchanRing(self._thread, self._addr, _WOKEN.encode())

    def close(self, tk: TkappType) -> None:
        """Call the function no more; to be called on the thread of *tk*."""
        with self._lock:
            self._closed = True
        lib.TclchanHush(self._addr)
        tk.deletecommand(_WOKEN)


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Nothing forks here."""


def getenv(name: str) -> str | None:
    """The variable that code in C finds; `os.environ` does not know what Tcl has set since."""
    value = ctypes.create_unicode_buffer(_MAX_VARIABLE)
    found = ctypes.windll.kernel32.GetEnvironmentVariableW(name, value, _MAX_VARIABLE)
    return value.value if found else None


def raise_descriptor_limit() -> None:
    """Sockets are handles here, and nothing but memory limits their number."""


def limits() -> dict[str, str]:
    """There are none that the driver meets."""
    return {}


@contextmanager
def standard_input() -> Iterator[str]:
    """The path of a file that has what comes from the standard input: a copy of it."""
    with tempfile.TemporaryDirectory(prefix="tclchan-") as directory:
        path = Path(directory) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path.as_posix()


def on_reopening(function: Callable[[], object]) -> None:
    """No signal says that the logs have been renamed."""


def put_reopening_off(off: bool = True) -> None:
    """There is nothing to put off."""


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Do nothing: Windows runs the handlers of signals in a thread of their own."""
    yield
