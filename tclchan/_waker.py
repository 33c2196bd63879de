"""How a thread that waits or computes in Tcl is reached: by signals, and from other threads."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import weakref
from _tkinter import TkappType
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from ._ffi import lib
from ._platform import system

STOP = 0
"""The byte of `Waker.poke`. The other bytes that arrive are the numbers of signals."""

_GRACE_SECONDS = 0.1


class Waker:
    """Makes an interpreter's thread run Python code although it is in Tcl.

    Python runs its signal handlers, and this package its stops, only between two steps of Python
    code, and a thread that waits in Tcl takes none. Here a signal, or `poke`, makes a socket
    readable, for which Tcl's event loop calls *on_wake*. A script that computes and never
    enters the event loop does not do that; a thread of ours notices when the bytes stay unread, and
    if they call for an end, unwinds the script.
    """

    def __init__(self, tk: TkappType, on_wake: Callable[[object, int], None]) -> None:
        """Start to watch; to be called on the thread of *tk*."""
        self._addr = tk.interpaddr()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._ends: Collection[int] = ()
        self._patience = 0.0
        self.impatient = False
        """A script that computed was unwound for the sake of a signal."""
        self._lock = threading.Lock()
        """Held to look at the bytes and unwind, so that nothing is unwound that began later."""
        self._closed = threading.Event()
        self._bell = system.Doorbell(tk, self._reader, on_wake)
        self._watcher = threading.Thread(target=self._watch, name="tclchan-waker", daemon=True)
        with system.signals_blocked():
            self._watcher.start()
        _wakers.add(self)

    @contextmanager
    def listening(self, ending_signals: Collection[int], patience: float = 0.0) -> Iterator[None]:
        """Be reached by signals in this block, if it is on the main thread.

        Args:
            ending_signals: the signals whose handlers mean to end what is evaluated.
            patience: for so many seconds a script that computes may go on after one such signal.
        """
        self._ends = {STOP, *ending_signals}
        self._patience = patience
        self.impatient = False
        try:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(before)
        finally:
            with self._lock:
                self._ends = ()
                self.clear()

    def poke(self) -> None:
        """Have *on_wake* called. Any thread may do this, and so may a signal handler."""
        with suppress(OSError):  # Full, which wakes as well, or closed.
            self._writer.send(bytes([STOP]))
        self._bell.ring()

    def clear(self) -> None:
        """Take the bytes; as long as nobody does, *on_wake* is called again and again."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def unwind(self) -> None:
        """End the evaluation that is going on in the interpreter, whatever it catches."""
        lib.TclchanUnwind(self._addr)

    def close(self, tk: TkappType) -> None:
        """Stop watching *tk*; to be called on its thread."""
        self._closed.set()
        self.poke()
        self._watcher.join()
        self._bell.close(tk)
        self._reader.close()
        self._writer.close()

    def part(self) -> None:
        """Have sockets of its own: what a forked child does with these would reach its parent."""
        reader, writer = socket.socketpair()
        for ours, new in ((self._reader, reader), (self._writer, writer)):
            new.setblocking(False)
            with suppress(OSError):  # Closed.
                os.dup2(new.fileno(), ours.fileno(), inheritable=False)
            new.close()
        self._lock = threading.Lock()  # The thread that may have held it is the parent's.

    def _watch(self) -> None:
        since = None
        while not self._closed.is_set():
            self._bell.wait()
            began = time.monotonic()
            self._bell.ring()
            if self._closed.wait(_GRACE_SECONDS):
                return
            ends: list[int] = []
            with self._lock, suppress(BlockingIOError):
                waiting = self._reader.recv(4096, socket.MSG_PEEK)
                ends = [byte for byte in waiting if byte in self._ends]
                since = since or began
                late = time.monotonic() >= since + self._patience
                if ends and (late or STOP in ends or len(ends) > 1):
                    self.impatient = True
                    self.unwind()
            if not ends:
                since = None


_wakers: weakref.WeakSet[Waker] = weakref.WeakSet()


def _part_all() -> None:
    for waker in tuple(_wakers):
        waker.part()


system.after_fork_in_child(_part_all)
