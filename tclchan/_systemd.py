"""The protocols of a service manager such as systemd: sockets passed, readiness told.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). Without such a manager, all of this
does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

_FIRST_DESCRIPTOR = 3


@dataclass
class ServiceManager:
    """What the environment says of the service manager.

    Attributes:
        notify_socket: the address of the socket that it is told at; empty if there is none.
        watchdog_seconds: the service has to say that it is well at least so often; 0 for never.
        sockets: the sockets that it has opened for this process, by order, with their names.
    """

    notify_socket: str
    watchdog_seconds: float
    sockets: list[tuple[str, socket.socket]]

    def __post_init__(self) -> None:
        """Have the socket to tell it with from the start: later, descriptors may be short."""
        if self.notify_socket:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def from_environment(cls) -> ServiceManager:
        """Take the variables out of the environment: they are for this process alone."""
        take = {name: os.environ.pop(name, "") for name in _VARIABLES}
        own = str(os.getpid())
        sockets: list[tuple[str, socket.socket]] = []
        if take["LISTEN_PID"] == own and take["LISTEN_FDS"].isdecimal():
            count = int(take["LISTEN_FDS"])
            names = take["LISTEN_FDNAMES"].split(":")[:count]
            names += ["unknown"] * (count - len(names))
            for descriptor, name in enumerate(names, _FIRST_DESCRIPTOR):
                os.set_inheritable(descriptor, False)
                sockets.append((name, socket.socket(fileno=descriptor)))
        watchdog = take["WATCHDOG_USEC"] if take["WATCHDOG_PID"] in ("", own) else ""
        seconds = int(watchdog) / 1e6 if watchdog.isdecimal() else 0.0
        return cls(take["NOTIFY_SOCKET"], seconds, sockets)

    def http_sockets(self) -> list[socket.socket]:
        """The sockets passed; of several, those named "http" if there are any."""
        named = [sock for name, sock in self.sockets if name == "http"]
        return named if len(self.sockets) > 1 and named else [sock for _, sock in self.sockets]

    def notify(self, *assignments: str) -> None:
        """Tell it *assignments*, such as ``"READY=1"``.

        That it cannot be told is no reason for a server to end.
        """
        if not self.notify_socket:
            return
        address = self.notify_socket
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode(), address)

    def reloading(self) -> None:
        """Tell it that the service reloads; ``READY=1`` is the end of that."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.notify("RELOADING=1", f"MONOTONIC_USEC={now}")


_VARIABLES = (
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)
