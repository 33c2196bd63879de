"""The line between a worker and its supervisor: a socket that carries messages, as lines of JSON.

The supervisor sends ``{"stats": {}}``, which is answered by ``{"stats": SNAPSHOT}`` from the event
loop, and so is a sign of life too; and ``{"drain": {"grace": SECONDS, "lull": SECONDS}}``, see
`Worker.drain`. A worker begins with ``{"ready": SITE}``, or ``{"failed": MESSAGE}``. When the line
ends, the other side is gone.
"""

from __future__ import annotations

import json
import socket
from _tkinter import READABLE, TkappType
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

MOST_CHARACTERS = 4000
"""A text that a message passes on is no longer. A character takes up to 12 bytes of a line, and the
supervisor's end reads none that is longer than 64 KiB."""


def encode(message: Message) -> bytes:
    """Make a line of *message*."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Control:
    """A worker's end. It owns *sock*.

    Args:
        sock: a connected socket.
        received: is called with each message, from Tcl's event loop.
        lost: is called once, when the supervisor is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Message], None],
        lost: Callable[[], None],
    ) -> None:
        """Nothing is received before `watch`."""
        self._sock = sock
        self._received = received
        self._lost = lost
        self._rest = b""

    def watch(self, tk: TkappType) -> None:
        """Receive in the event loop of *tk*, on whose thread this is called."""
        self._sock.setblocking(False)
        tk.createfilehandler(self._sock, READABLE, lambda file, mask: self._readable(tk))

    def unwatch(self, tk: TkappType) -> None:
        """Receive nothing more."""
        tk.deletefilehandler(self._sock)

    def send(self, message: Message) -> None:
        """Send *message*; if the supervisor is gone, or does not read, it is dropped."""
        try:
            self._sock.send(encode(message))
        except OSError:
            return

    def _readable(self, tk: TkappType) -> None:
        try:
            received = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.unwatch(tk)
            self._lost()
            return
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            self._received(json.loads(line))
