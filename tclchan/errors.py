"""What can go wrong, as exceptions. All of them are `TclchanError`."""

from __future__ import annotations

from _tkinter import TclError


class TclchanError(Exception):
    """The base of all errors that tclchan raises on purpose."""


class AttachError(TclchanError):
    """The driver cannot be loaded into an interpreter."""


class EngineUnavailable(AttachError):
    """The engine that was asked for by name cannot run here.

    Attributes:
        engine (str): the name of the engine.
        reason (str): why it cannot run, in words.
    """

    def __init__(self, engine: str, reason: str) -> None:
        """Make the error for *engine*, which cannot run because of *reason*."""
        super().__init__(f'engine "{engine}" cannot be used here: {reason}')
        self.engine = engine
        self.reason = reason


class ScriptError(TclchanError, TclError):
    """A Tcl script failed. It is a `tkinter.TclError` too.

    Attributes:
        errorcode (tuple[str, ...]): Tcl's ``errorCode``: ``("POSIX", "ECONNREFUSED", ...)``.
        errorinfo (str): Tcl's ``errorInfo``, the stack trace that a tclsh prints.
    """

    def __init__(self, message: str, errorcode: tuple[str, ...] = (), errorinfo: str = "") -> None:
        """Make the error with Tcl's *message*, *errorcode* and *errorinfo*."""
        super().__init__(message)
        self.errorcode = errorcode
        self.errorinfo = errorinfo or message


class HttpdError(TclchanError):
    """A web server cannot be started."""
