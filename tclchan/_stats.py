"""The counters of the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._ffi import ffi, lib


@dataclass(frozen=True)
class Stats:
    """A snapshot of the driver's counters, over all interpreters and threads of the process.

    The names are those of Tcl's ``iocp::stats``, spelt the Python way. Unless said otherwise, a
    counter counts from the start of the process and never goes down.

    Attributes:
        sockets_open: sockets open now, listeners included.
        channels_opened: channels made.
        accepts: connections accepted.
        accept_errors: accepts that failed.
        accepts_unreplaced: accepts that could not be armed again at once.
        accepts_dead: connections that were already reset when they were accepted.
        accept_pauses: times that accepting paused for want of descriptors or memory.
        connects: connections made as a client.
        connect_errors: connections as a client that failed.
        resets: connections that the peer reset.
        bytes_received: bytes received from peers.
        bytes_sent: bytes handed to the kernel.
        ops_submitted: operations given to the engine.
        ops_completed: completions reaped from it.
        ops_orphaned: operations whose channel was closed before they completed.
        enters: system calls made to hand over operations or to fetch completions.
        waits: those that could block.
        pool_bytes: bytes held now in buffers.
        bytes_queued: bytes that wait now to be sent.
        heap_bytes: bytes of memory that the driver holds now.
        linger_expired: channels given up with bytes unsent because the peer did not read.
        send_retries: sends repeated for want of kernel memory.
        events_queued: events given to Tcl.
    """

    sockets_open: int
    channels_opened: int
    accepts: int
    accept_errors: int
    accepts_unreplaced: int
    accepts_dead: int
    accept_pauses: int
    connects: int
    connect_errors: int
    resets: int
    bytes_received: int
    bytes_sent: int
    ops_submitted: int
    ops_completed: int
    ops_orphaned: int
    enters: int
    waits: int
    pool_bytes: int
    bytes_queued: int
    heap_bytes: int
    linger_expired: int
    send_retries: int
    events_queued: int


def _python_name(name: str) -> str:
    return re.sub("[A-Z]", lambda match: "_" + match[0].lower(), name)


def stats() -> Stats:
    """Read all counters.

    Each is read by itself: with other threads at work, they need not be of one instant.
    """
    return Stats(
        **{
            _python_name(ffi.string(lib.Iocp_StatName(i)).decode()): lib.Iocp_StatValue(i)
            for i in range(lib.Iocp_StatCount())
        }
    )
