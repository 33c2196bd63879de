"""`Interp`: a Tcl interpreter with the driver, owned by Python."""

from __future__ import annotations

import _tkinter
import atexit
import ctypes
import itertools
import os
import signal
import threading
import traceback
import warnings
import weakref
from _tkinter import TclError, TkappType
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from ._attach import attach, choose_notifier, drain, library_dir
from ._ffi import lib
from ._platform import system
from ._waker import Waker
from .errors import AttachError, ScriptError

T = TypeVar("T")

_DRAIN_SECONDS = 60.0
_STOPPED_DRAIN_SECONDS = 0.5
_NO_LOOP = 2**31 - 1

_PRELUDE = r"""
namespace eval ::tclchan {}

# A command in Python answers with {failed value errorcode errorinfo}.
proc ::tclchan::invoke {name args} {
    lassign [::tclchan::python $name {*}$args] failed value code info
    if {$failed} {
        return -code error -errorcode $code -errorinfo $info $value
    }
    return $value
}

# tkinter takes Tcl's own exit away, which would end the process in the midst of Python's work.
proc ::exit {{returnCode 0}} {
    if {![string is integer -strict $returnCode]} {
        return -code error -errorcode {TCL VALUE NUMBER} "expected integer but got \"$returnCode\""
    }
    # Tcl's spelling of numbers is not Python's.
    ::tclchan::exit [expr {int($returnCode)}]
    ::tclchan::unwind
}

# No catch stops this. But it stops at the bottom of a coroutine: so that is left first.
proc ::tclchan::unwind {} {
    if {[info coroutine] ne ""} {
        catch {yieldto ::tclchan::unwind}
    }
    interp cancel -unwind
}

# A handler that exit cut short has not failed.
proc ::tclchan::bgerror {message options} {
    if {[lrange [dict get $options -errorcode] 0 1] ne {TCL CANCEL}} {
        ::tcl::Bgerror $message $options
    }
}
interp bgerror {} ::tclchan::bgerror

# Tcl has unwound the child interpreters too, and forgets it when they evaluate a list (no script).
proc ::tclchan::settle_children {} {
    foreach child [interp slaves] {
        catch {interp eval $child [list concat]}
    }
}

proc ::tclchan::replace_socket {} {
    if {[info commands ::tcl_core_socket] eq ""} {
        rename ::socket ::tcl_core_socket
        interp alias {} ::socket {} ::socket2
    }
}

# What a tclsh does with its channels when it ends: it writes out what is buffered, and waits for
# no program at the other end of a pipe. The driver's channels are sent by drain, which can be
# interrupted.
proc ::tclchan::close_channels {stopped} {
    foreach chan [chan names] {
        if {$chan in {stdin stdout stderr}} {
            catch {flush $chan}
            continue
        }
        if {[string match iocp* $chan]} {
            catch {chan configure $chan -blocking 0}
        } elseif {!$stopped} {
            catch {chan configure $chan -blocking 1}
            catch {flush $chan}
        }
        if {![catch {pid $chan} pids] && [llength $pids]} {
            catch {chan configure $chan -blocking 0}
        }
        catch {chan close $chan}
    }
}
"""


class Interp:
    """A Tcl interpreter with the driver in it, and an event loop that stops at once when asked.

    It has no Tk, and reads no profile files from the home directory. It belongs to the thread that
    made it, which must also close it: use it in a ``with`` statement. Only `stop` may be called
    from elsewhere.

    Tcl's ``exit ?code?`` ends the evaluation, not the process: nothing in the script catches it,
    not even in a nested ``vwait`` or in a coroutine, and ``finally`` clauses in Tcl do not run.
    `run` and `source` return the code; `eval` and `call` raise `SystemExit` with it, which, if
    nobody catches it, ends a Python program with that code in the usual way. The ``exit`` of an
    interpreter or thread that a script made is Tcl's own, and ends the process.

    Signals are handled at once although Tcl waits, in a loop of its own or in a computation, if the
    interpreter is on the main thread. In `run` and `source`, SIGINT and SIGTERM are a ``stop(0)``,
    unless the program has handlers of its own for them; another one raises `KeyboardInterrupt`.
    In `eval` and `call`, SIGINT raises `KeyboardInterrupt` as elsewhere in Python. What has to end
    first is a call of the system that Tcl is waiting for, as in ``exec`` or in a blocking read.

    Attributes:
        stopped_by: the number of the signal that ended the last `run` or `source`, or None.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        notifier: str = "auto",
        replace_socket: bool = False,
        argv0: str = "tclchan",
        argv: Sequence[str] = (),
    ) -> None:
        """Make an interpreter.

        Args:
            engine: the name of an engine, or ``"auto"``; see `attach`.
            notifier: what Tcl's event loop waits with: ``"ring"``, the engine, which is faster and
                copes with any number of descriptors, or ``"tcl"``, Tcl's own notifier. It is one
                for the whole process, and is chosen before anything else uses Tcl's event loop.
                ``"auto"`` is what ``TCLCHAN_NOTIFIER`` says, or else ``"ring"`` where that can be:
                on the main thread, and before Tk or other threads with Tcl.
            replace_socket: make ``socket`` be ``socket2``; the core's is ``tcl_core_socket`` then.
            argv0: the value of Tcl's ``argv0``.
            argv: the value of Tcl's ``argv``.

        Raises:
            EngineUnavailable, ValueError, AttachError: as `attach` does; and ``"ring"`` was asked
                for too late.
        """
        self.stopped_by: int | None = None
        self._thread = threading.get_ident()
        self._depth = 0
        self._ending: BaseException | None = None
        self._functions: dict[str, Callable[..., Any]] = {}
        self._tokens = itertools.count()
        self._raised: tuple[str, Exception] | None = None
        self._drain: Callable[[], object] | None = None
        self._patience = 0.0
        # Not tkinter.Tcl(), which runs ~/.Tk.tcl, ~/.Tk.py and two more.
        self._tk: TkappType | None = _tkinter.create(
            None, "tclchan", "Tclchan", False, True, False, False, None
        )
        tk = self._tk
        try:
            attach(self, engine=engine)
            if not lib.TclchanInit(tk.interpaddr()):
                raise AttachError(f"tclchan is not built for Tcl {tk.eval('info patchlevel')}")
            choose_notifier(tk, notifier)
            # Tcl 8.6 has a thread for its own event loop.
            with system.signals_blocked():
                lib.TclchanStartNotifier()
        except BaseException:
            # No traceback may keep it alive: it would be freed on whatever thread drops that.
            self._tk = None
            del tk
            raise
        self._waker = Waker(tk, _weakly(self._woken))
        _open_interps.add(self)
        try:
            tk.createcommand("::tclchan::python", _weakly(self._invoke))
            tk.createcommand("::tclchan::exit", _weakly(self._exit))
            tk.eval(_PRELUDE)
            tk.eval(system.PRELUDE)
            tk.call("lappend", "auto_path", library_dir().as_posix())
            tk.call("set", "::argv0", argv0)
            tk.call("set", "::argv", tuple(argv))
            tk.call("set", "::argc", len(argv))
            if replace_socket:
                tk.call("::tclchan::replace_socket")
        except BaseException:
            del tk
            self.close()
            raise

    @property
    def tk(self) -> TkappType:
        """The interpreter as tkinter's own methods take it.

        An exception in a command that was made with ``tk.createcommand`` is raised when the
        evaluation ends; `command` does better.

        Raises:
            RuntimeError: the interpreter is closed.
        """
        if self._tk is None:
            raise RuntimeError("the interpreter is closed")
        return self._tk

    def eval(self, script: str) -> str:
        """Evaluate *script* at the global level.

        Returns:
            The result, as a string.

        Raises:
            ScriptError: the script failed.
            Exception: a command in Python raised it, and the script did not catch it.
            SystemExit: the script called ``exit``, or somebody called `stop`.
        """
        if not self._depth:
            return self._enter(lambda: self.tk.eval(script))

        def body() -> str:
            # In a command in Python, the level is that of the procedure which calls it.
            self.tk.call("set", "::tclchan::script", script)
            return self.tk.eval("uplevel #0 $::tclchan::script")

        return self._enter(body)

    def call(self, *words: object) -> Any:
        """Call the command *words*, none of which Tcl substitutes or splits.

        Returns:
            The result, converted as tkinter does: numbers, strings, bytes, and lists as tuples.

        Raises:
            ScriptError, Exception, SystemExit: as `eval` does.
        """
        return self._enter(lambda: self.tk.call(words))

    def command(self, name: str, func: Callable[..., object]) -> None:
        """Make *func* a command of Tcl by the name of *name*.

        It is called with the arguments as strings. What it returns is the result, None being the
        empty string. What it raises is an error in Tcl, with errorCode ``PYTHON class number``, or
        that of a `ScriptError`, and the Python traceback in errorInfo. If no script catches it, the
        same exception comes out of `eval`, with the Tcl stack as a note; from an event handler it
        goes to ``bgerror``, which by default writes all of that to stderr. `SystemExit` is an
        ``exit``, and `KeyboardInterrupt` ends the evaluation as well.
        """
        self.call("interp", "alias", "", name, "", "::tclchan::invoke", name)
        self._functions[name] = func

    def run(self, *, drain: Callable[[], object] | None = None, patience: float = 0.0) -> int:
        """Run the event loop until `stop`, ``exit``, or a signal.

        Args:
            drain: what the first SIGINT or SIGTERM calls instead of stopping: it sees to it that
                what is under way comes to its end, and that `stop` is called then.
            patience: a script that computes may go on for so many seconds after the signal.

        Returns:
            The exit code: 0 after a signal, see `stopped_by`.

        Raises:
            Exception: a signal handler of the program raised it. What an event handler raises goes
                to ``bgerror``.
        """
        self._drain, self._patience = drain, patience
        try:
            return self._until_end(lambda: self.tk.eval("vwait ::tclchan::forever"))
        finally:
            self._drain, self._patience = None, 0.0

    def source(self, path: str | os.PathLike[str]) -> int:
        """Evaluate the file *path* as a tclsh does; ``argv0`` is its name then.

        Returns:
            The exit code: 0 if the script ends without calling ``exit``.

        Raises:
            ValueError: the name is not UTF-8, and so not one for Tcl.
            ScriptError, Exception: as `eval` does.
        """
        check_name("script", os.fspath(path))

        def body() -> str:
            self.tk.call("set", "::argv0", os.fspath(path))
            # For a file that cannot be read, Tcl leaves both as they were.
            self.tk.eval("set ::errorInfo {}; set ::errorCode NONE")
            return self.tk.evalfile(os.fspath(path))

        return self._until_end(body)

    def stop(self, code: int = 0) -> None:
        """End what is being evaluated, as the script's own ``exit`` with *code* does.

        Any thread may call this, and so may a signal handler. If nothing is being evaluated, the
        next evaluation ends at once.
        """
        self._end(SystemExit(code))

    def close(self, *, seconds: float | None = None) -> None:
        """Close the channels, send what is still to be sent, and delete the interpreter.

        A second call does nothing.

        Args:
            seconds: wait at most so long for peers to take what they were sent. Without it, at most
                a minute, and half a second if a signal ended the last `run` or `source`.

        Raises:
            RuntimeError: this is another thread than the interpreter's, or it evaluates a script.
        """
        if self._tk is None:
            return
        self._check_usable()
        if self._depth:
            raise RuntimeError("the interpreter cannot be closed while it evaluates a script")
        stopped = self.stopped_by is not None or seconds is not None
        if seconds is None:
            seconds = _STOPPED_DRAIN_SECONDS if stopped else _DRAIN_SECONDS
        self._settle()
        with suppress(TclError):
            self._tk.call("::tclchan::close_channels", stopped)
        self._waker.close(self._tk)
        if stopped:
            # Without this, the end of the interpreter would wait for peers, and for longer.
            drain(0)
        # Each of them keeps the interpreter alive.
        for name in ("::tclchan::python", "::tclchan::exit"):
            with suppress(TclError):
                self._tk.deletecommand(name)
        self._functions.clear()
        self._tk = None
        _open_interps.discard(self)
        drain(seconds)

    def __enter__(self) -> Self:
        """Return the interpreter itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the interpreter."""
        self.close()

    def __del__(self) -> None:
        """Close an interpreter that was forgotten, where that can be done."""
        if getattr(self, "_tk", None) is not None:
            message = f"unclosed interpreter {self!r}"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            if threading.get_ident() == self._thread and not self._depth:
                self.close()
            else:
                # Tcl aborts the process if an interpreter is freed on another thread than its own.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._tk))

    # Everything below serves one idea: what ends an evaluation early is an exception in _ending,
    # from the moment it is known until the outermost Python frame of the evaluation raises it. As
    # long as it is there, Tcl is unwound again whenever it comes near the event loop.

    def _enter(self, body: Callable[[], T]) -> T:
        """Call *body*, which evaluates Tcl code; raise what ended it before its own end."""
        self._check_usable()
        if self._depth:
            return self._evaluate(body)
        self._settle()  # A signal may have interrupted the one at the end of the last evaluation.
        try:
            with self._waker.listening(self._ending_signals(), self._patience):
                return self._evaluate(body)
        except BaseException:
            self._ending = None
            raise
        finally:
            self._raised = None
            self._settle()

    def _evaluate(self, body: Callable[[], T]) -> T:
        if self._ending is not None:
            raise self._ending
        failure: Exception | None = None
        self._depth += 1
        try:
            result = body()
        except TclError as error:
            failure = self._failure(error)
        finally:
            self._depth -= 1
        self._note_stray()
        if self._ending is not None:
            raise self._ending
        if failure is not None:
            raise failure
        return result

    def _until_end(self, body: Callable[[], object]) -> int:
        with self._stopped_by_signals():
            try:
                self._enter(body)
            except SystemExit as end:
                if end.code is None or isinstance(end.code, int):
                    return end.code or 0
                raise
        return 0

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        taken: list[tuple[signal.Signals, Any]] = []
        if not self._depth:
            self.stopped_by = None
            if threading.current_thread() is threading.main_thread():
                for number in system.ENDING_SIGNALS:
                    before = signal.getsignal(number)
                    if before in (signal.SIG_DFL, signal.default_int_handler):
                        taken.append((number, before))
                        signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, before in taken:
                signal.signal(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._drain is not None and not self._waker.impatient:
            drain, self._drain = self._drain, None
            drain()
            return
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = number
        self.stop()

    def _ending_signals(self) -> list[int]:
        ours = (signal.default_int_handler, self._on_signal)
        return [n for n in system.ENDING_SIGNALS if signal.getsignal(n) in ours]

    def _end(self, ending: BaseException) -> None:
        if self._ending is None:
            self._ending = ending
        self._waker.poke()

    def _woken(self, file: object, mask: int) -> None:
        """Called by Tcl's event loop; by now Python has run its signal handlers."""
        self._note_stray()
        self._waker.clear()
        if self._ending is not None:
            self._waker.poke()
            self._waker.unwind()

    def _note_stray(self) -> None:
        """Find an exception that left a callback, as one in a signal handler may do at any moment.

        tkinter keeps it until its main loop looks. This is such a look, without a loop.
        """
        try:
            self.tk.mainloop(_NO_LOOP)
        except BaseException as stray:
            self._end(stray)
        finally:
            self.tk.willdispatch()  # The main loop has taken back that other threads may call us.

    def _settle(self) -> None:
        """See to it that the interpreter can be used again, should it have been unwound."""
        # Tcl forgets that it is being unwound only at the end of a script that it compiled.
        for evaluate in (self.tk.call, self.tk.record) * 2:
            with suppress(TclError):
                evaluate("concat")
                break
        with suppress(TclError):
            self.tk.call("::tclchan::settle_children")

    def _invoke(self, name: str, *args: str) -> tuple[int, object, object, str]:
        try:
            value = self._functions[name](*args)
        except Exception as error:
            code: tuple[str, ...]
            if isinstance(error, ScriptError):
                code = error.errorcode
            else:
                code = ("PYTHON", type(error).__name__, str(next(self._tokens)))
                self._raised = (code[2], error)
            message = str(error) or type(error).__name__
            return 1, message, code, "".join(traceback.format_exception(error)).rstrip()
        except BaseException as ending:
            self._end(ending)
            self._waker.unwind()
            return 1, "", "", ""
        return 0, "" if value is None else value, "", ""

    def _exit(self, code: str) -> None:
        self._end(SystemExit(int(code)))

    def _failure(self, error: TclError) -> Exception:
        # Variables can be read while Tcl is being unwound; no script could be evaluated.
        read: Callable[[str], Any] = self.tk.globalgetvar
        code = tuple(map(str, self.tk.splitlist(read("errorCode"))))
        info = str(read("errorInfo"))
        if self._raised is not None and code[:1] == ("PYTHON",) and code[-1] == self._raised[0]:
            raised = self._raised[1]
            if self._depth == 1:
                raised.add_note(f"In Tcl: {info}")
            return raised
        return ScriptError(str(error), code, info)

    def _check_usable(self) -> None:
        if self._tk is None:
            raise RuntimeError("the interpreter is closed")
        if threading.get_ident() != self._thread:
            raise RuntimeError("an interpreter can be used only on the thread that made it")


def check_name(what: str, name: str) -> None:
    """Raise `ValueError` if Tcl would take the *name* of a file for that of another one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        raise ValueError(f'{what} "{shown}" cannot be used: its name is not UTF-8') from None


def _weakly(method: Callable[..., T]) -> Callable[..., T | None]:
    """Make a callback that does not keep the object of *method* alive."""
    reference = weakref.WeakMethod(method)

    def callback(*args: Any) -> T | None:
        bound = reference()
        return None if bound is None else bound(*args)

    return callback


_open_interps: weakref.WeakSet[Interp] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for interp in list(_open_interps):
        if interp._thread == threading.get_ident():
            interp.close()
