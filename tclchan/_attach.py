"""The way of the driver into an interpreter, and of its last bytes out of the process."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from _tkinter import TclError, TkappType
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ._engines import engines
from ._ffi import ffi, lib
from ._platform import system
from .errors import AttachError, EngineUnavailable

NOTIFIERS = ("auto", "ring", "tcl")


class HasTk(Protocol):
    """A `tkinter.Tk`, the result of `tkinter.Tcl()`, or an `Interp`."""

    @property
    def tk(self) -> TkappType:
        """The Tcl interpreter."""


@dataclass(frozen=True)
class Attachment:
    """What an interpreter got from `attach`.

    Attributes:
        engine: the name of the engine that serves the interpreter's thread.
        version: the version of the driver's package.
    """

    engine: str
    version: str


def library_dir() -> Path:
    """The directory with the driver and its ``pkgIndex.tcl``, for the ``auto_path`` of a tclsh."""
    return Path(__file__).parent.resolve()


def attach(interp: HasTk, *, engine: str = "auto") -> Attachment:
    """Load the driver into *interp*: it then has ``socket2`` and the commands of ``::iocp``.

    To be called on the thread that created *interp*; its channels live there. A second call does no
    harm. What closed channels have still to send when the program exits is sent then, within the
    ``-linger`` of each.

    Args:
        interp: a `tkinter.Tk`, or the result of `tkinter.Tcl()`.
        engine: the name of an engine, or ``"auto"`` for what ``TCLCHAN_ENGINE`` says, or else the
            first that is usable. All interpreters of one thread share an engine.

    Raises:
        EngineUnavailable: *engine* was named and cannot run here; ``.reason`` says why.
        ValueError: there is no engine of that name.
        AttachError: this is another thread than the interpreter's, or the driver does not load.
    """
    try:
        # Unlike call, eval fails at once on another thread, and does not wait for an event loop.
        interp.tk.eval("")
    except RuntimeError as error:
        raise AttachError("attach must be called on the thread of the interpreter") from error
    try:
        with _asking_for(engine):
            interp.tk.call("load", (library_dir() / system.DRIVER).as_posix(), "Iocpsock")
    except TclError as error:
        raise _load_error(str(error)) from error
    used = interp.tk.eval("::iocp::engine")
    if engine not in ("auto", used):
        if engine not in (names := [info.name for info in engines()]):
            raise ValueError(f'unknown engine "{engine}": must be auto, {", ".join(names)}')
        raise EngineUnavailable(engine, f"this thread uses {used} already")
    return Attachment(used, ffi.string(lib.Iocp_Version()).decode())


def choose_notifier(tk: TkappType, notifier: str) -> None:
    """Put Tcl's event loop on the driver, if *notifier* (see `Interp`) means that.

    To be called before anything is given to the event loop.
    """
    if notifier == "auto":
        notifier = os.environ.get("TCLCHAN_NOTIFIER") or "auto"
    if notifier not in NOTIFIERS:
        raise ValueError(f'unknown notifier "{notifier}": must be {", ".join(NOTIFIERS)}')
    if notifier == "tcl" or (notifier == "auto" and not _may_host()):
        return
    try:
        tk.call("::iocp::notifier", "ring")
    except TclError as error:
        if notifier == "ring":
            raise AttachError(str(error)) from error


def _may_host() -> bool:
    """Whether no other part of the program is likely to use Tcl's own notifier already."""
    tkinter = sys.modules.get("tkinter")
    return (
        threading.current_thread() is threading.main_thread()
        and getattr(tkinter, "_default_root", None) is None
    )


def drain(seconds: float) -> bool:
    """Send what the closed channels of this thread still have to send.

    Args:
        seconds: how long to wait at most.

    Returns:
        Whether all of it is out.
    """
    deadline = time.monotonic() + seconds
    # In slices, since Python's signal handlers run between them.
    while not lib.Iocp_Drain(max(0, min(100, int(1000 * (deadline - time.monotonic()))))):
        if time.monotonic() >= deadline:
            return False
    return True


_environ_lock = threading.RLock()


@contextmanager
def _asking_for(engine: str) -> Iterator[None]:
    """Let the driver, which looks into the environment when it is loaded, find *engine* there.

    `os.environ` is left alone: it is a copy that does not know what Tcl has set since.
    """
    with _environ_lock:
        if engine == "auto":
            yield
            return
        before = system.getenv("TCLCHAN_ENGINE")
        os.putenv("TCLCHAN_ENGINE", engine)
        try:
            yield
        finally:
            if before is None:
                os.unsetenv("TCLCHAN_ENGINE")
            else:
                os.putenv("TCLCHAN_ENGINE", before)


def _load_error(message: str) -> Exception:
    if found := re.fullmatch(r'iocp engine "(.*?)" cannot be used here: (.*)', message, re.DOTALL):
        return EngineUnavailable(found[1], found[2])
    if message.startswith("unknown engine"):
        return ValueError(message)
    return AttachError(f"the driver does not load: {message}")
