"""The counters of the driver."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ._engines import engines
from ._ffi import ffi, lib


@dataclass(frozen=True)
class Stats:
    """A snapshot of the driver's counters, over all interpreters and threads that it is about.

    The names are those of Tcl's ``iocp::stats``, spelt the Python way. Unless said otherwise, a
    counter counts from the start of the process and never goes down.

    Attributes:
        sockets_open: sockets open now: listeners, and connections that nobody took yet, included.
        channels_opened: channels made.
        accepts: connections accepted.
        accept_errors: accepts that failed.
        accepts_dead: connections that were already reset when they were accepted.
        accept_pauses: times that accepting paused for want of descriptors or memory.
        connects: connections made as a client.
        connect_errors: connections as a client that failed.
        resets: connections that the peer reset.
        idle_timeouts: connections ended since their peer did nothing (``-idletimeout``).
        request_timeouts: connections ended since their peer sent too slowly (``-requesttimeout``).
        proxy_errors: connections closed for want of a proxy's header (``-proxyprotocol``).
        bytes_received: bytes received from peers.
        bytes_sent: bytes handed to the kernel.
        bytes_copied: those that ``iocp::copy`` has copied without Tcl.
        ops_submitted: operations given to the engine.
        ops_completed: completions reaped from it.
        ops_orphaned: operations whose channel was closed before they completed.
        enters: system calls made to hand over operations or to fetch completions.
        waits: those that could block.
        buffers: buffers that hold data now, or wait for some.
        pool_bytes: bytes of memory that the pools of receive buffers hold now.
        bytes_queued: bytes of memory that other buffers hold now, most of it to be sent.
        heap_bytes: bytes of memory that the driver holds now.
        linger_expired: channels given up with bytes unsent because the peer did not read.
        send_retries: sends repeated for want of kernel memory.
        events_queued: events given to Tcl.
    """

    sockets_open: int
    channels_opened: int
    accepts: int
    accept_errors: int
    accepts_dead: int
    accept_pauses: int
    connects: int
    connect_errors: int
    resets: int
    idle_timeouts: int
    request_timeouts: int
    proxy_errors: int
    bytes_received: int
    bytes_sent: int
    bytes_copied: int
    ops_submitted: int
    ops_completed: int
    ops_orphaned: int
    enters: int
    waits: int
    buffers: int
    pool_bytes: int
    bytes_queued: int
    heap_bytes: int
    linger_expired: int
    send_retries: int
    events_queued: int


def _python_name(name: str) -> str:
    return re.sub("[A-Z]", lambda match: "_" + match[0].lower(), name)


@functools.cache
def _engine_names() -> list[str]:
    """Those of this build; asking sets each of them up."""
    return [info.name for info in engines()]


def stats(engine: str | None = None) -> Stats:
    """Read all counters.

    Each is read by itself: with other threads at work, they need not be of one instant.

    Args:
        engine: count only what the engine of this name has served; without it, the whole process.

    Raises:
        ValueError: this build has no such engine.
    """
    if engine is not None and engine not in _engine_names():
        raise ValueError(f'unknown engine "{engine}": must be {" or ".join(_engine_names())}')
    name = ffi.NULL if engine is None else ffi.new("char[]", engine.encode())
    return Stats(
        **{
            _python_name(ffi.string(lib.Iocp_StatName(i)).decode()): lib.Iocp_StatValue(name, i)
            for i in range(lib.Iocp_StatCount())
        }
    )
