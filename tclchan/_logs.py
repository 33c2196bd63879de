"""The log of ``tclchan httpd``: standard `logging`, one line for each record, in text or JSON.

A record is one write to a file that is open for appending, so that processes can share it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from _tkinter import TclError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from ._interp import Interp
from ._platform import system
from .errors import HttpdError

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[\w.:/@%+,-]+", re.ASCII)


class LineHandler(logging.Handler):
    """Writes each record at once and as a whole."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Append to the file *path*, or write to the standard error output."""
        super().__init__()
        self._path = None if path is None else os.path.abspath(path)
        self._fd = 2 if self._path is None else _open(self._path)
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*."""
        try:
            os.write(self._fd, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
            self._failed = False
        except OSError as error:
            # A full disk is told once.
            if not self._failed:
                self._failed = True
                with suppress(OSError):
                    os.write(2, f"tclchan: the log cannot be written: {error.strerror}\n".encode())
        except Exception:
            self.handleError(record)

    def reopen(self) -> None:
        """Go on in a new file by the same name, since the old one may have been renamed.

        The descriptor stays the same, so that neither a thread that writes nor a signal handler
        that calls this has to wait for the other.

        Raises:
            OSError: the file cannot be opened; the old one is kept.
        """
        if self._path is not None:
            new = _open(self._path)
            os.dup2(new, self._fd, inheritable=False)
            os.close(new)

    def close(self) -> None:
        """Close the file."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


class TextFormatter(logging.Formatter):
    """``TIME LEVEL LOGGER[PROCESS]: MESSAGE name=value ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for *record*."""
        origin = f"{record.name}[{record.process}]"
        head = f"{_time(record)} {record.levelname} {origin}: {record.getMessage()}"
        parts = [_CONTROL.sub(lambda found: ascii(found[0])[1:-1], head)]
        for name, value in _fields(self, record).items():
            text = str(value)
            parts.append(f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}")
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """An object with ``time``, ``level``, ``logger``, ``pid``, ``message``, and the own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for *record*."""
        standard: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        return json.dumps(standard | _fields(self, record) | standard, default=str)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that are about the log."""
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=FORMATS[0],
        help="the form of the log's lines (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="the least that is logged (default: info in a file, else warning)",
    )
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        help=f"where the log goes{system.REOPENING} (default: the standard error output)",
    )


@contextmanager
def logging_to(path: str | None, log_format: str, level: str | None) -> Iterator[None]:
    """Log what the process has to say for the length of a ``with`` block.

    Args:
        path: the file to append to; None is the standard error output.
        log_format: one of `FORMATS`.
        level: one of `LEVELS`, the least that is logged; None is ``"info"`` in a file, which is to
            tell of starts and ends too, and ``"warning"`` otherwise.

    Raises:
        HttpdError: the file cannot be opened.
    """
    try:
        handler = LineHandler(path)
    except OSError as error:
        raise HttpdError(f'cannot open the log "{path}": {error.strerror}') from error
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel((level or ("warning" if path is None else "info")).upper())
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()


def take_background_errors(interp: Interp) -> None:
    """Have what goes wrong in the event handlers of *interp* logged, as ``tclchan.tcl``."""
    logger = logging.getLogger("tclchan.tcl")

    def log(message: str, options: str) -> None:
        words = interp.tk.splitlist(options)
        fields = dict(zip(words[::2], words[1::2], strict=True))
        code = str(fields.get("-errorcode", ""))
        if not code.startswith("TCL CANCEL"):  # By exit, or a stop.
            extra = {"errorcode": code, "errorinfo": str(fields.get("-errorinfo", ""))}
            logger.error("background error: %s", message, extra=extra)

    interp.command("::tclchan::log_background_error", log)
    interp.call("interp", "bgerror", "", "::tclchan::log_background_error")


def reopen(interp: Interp | None = None) -> None:
    """Go on in new files: the log's, and that of the access log of the site in *interp*.

    That is how a rotation ends, which has renamed the old ones. One that cannot be opened is kept,
    and the log says why.
    """
    logger = logging.getLogger("tclchan.logs")
    script = "if {[namespace exists ::tclchan::access]} {::tclchan::access::reopen}"
    actions: list[Callable[[], object]] = [
        handler.reopen
        for handler in logging.getLogger().handlers
        if isinstance(handler, LineHandler)
    ]
    if interp is not None:
        actions.append(lambda: interp.tk.eval(script))
    for action in actions:
        try:
            action()
        except (OSError, RuntimeError, TclError) as error:
            logger.error("a log cannot be opened anew: %s", error)
    logger.info("the logs are opened anew")


def reopen_when_asked(interp: Interp) -> None:
    """Have a signal call `reopen`. To be called on the main thread, which is that of *interp*."""
    system.on_reopening(lambda: reopen(interp))


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, in UTC."""
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    """What the record has beyond the standard: its ``extra``, and its exception."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if record.exc_info:
        fields["exception"] = formatter.formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields
