"""The listening sockets of ``tclchan httpd``: opened before the server that they are for.

Who opens them may be root, and give that up; and several processes can listen with them, of which
one takes the place of another without a connection being refused: a socket's queue lives as long as
anybody has the socket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from .errors import HttpdError

PORT_TRIES: Final = 50
"""So often is another port tried, where the one that port 0 has led to is taken at some address."""


def open_listeners(address: str, port: int) -> list[socket.socket]:
    """Listen on *address* and *port*.

    Args:
        address: an address or a name; one may stand for several addresses.
        port: the port, the same one for all addresses; 0 takes one that is free at each of them.

    Returns:
        A socket for each address.

    Raises:
        HttpdError: none of the addresses can be had.
    """
    if not address:
        raise HttpdError("the address is empty")
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise HttpdError(f"couldn't open socket: {_words(error)} ({address})") from error
    except UnicodeError as error:
        raise HttpdError(f"couldn't open socket: no host has such a name ({address})") from error
    names = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
    for _ in range(PORT_TRIES):
        listeners, failures = _listen_at(names, port)
        if not (port == 0 and any(error.errno == errno.EADDRINUSE for error in failures)):
            break
        for listener in listeners:
            listener.close()
        listeners = []
    if not listeners:
        raise HttpdError(f"couldn't open socket: {_words(failures[0])} ({address} port {port})")
    return listeners


def _listen_at(
    names: Sequence[tuple[int, tuple[object, ...]]], port: int
) -> tuple[list[socket.socket], list[OSError]]:
    """Listen at the names of *names* that can be had, all with one port."""
    listeners: list[socket.socket] = []
    failures: list[OSError] = []
    for family, name in names:
        try:
            listeners.append(_listen(family, (name[0], port, *name[2:])))
        except OSError as error:
            failures.append(error)
        else:
            port = listeners[-1].getsockname()[1]
    return listeners, failures


def _listen(family: int, name: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(name)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    return listener


def refuse(listeners: Iterable[socket.socket]) -> None:
    """Listen no more with *listeners*, in all processes that have them: clients are refused."""
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def check_listener(sockets: list[socket.socket], port: int | None, address: str | None) -> None:
    """See to it that *sockets*, which the service manager opened, are what was asked for.

    Args:
        sockets: what it passed.
        port: the port that it should be, None for any.
        address: the address that it should be, None for any.

    Raises:
        HttpdError: it is not one listening TCP socket, at that port and address.
    """
    if len(sockets) != 1:
        raise HttpdError(
            f"the service manager passed {len(sockets)} sockets: one is served;"
            ' of several, the one named "http" (FileDescriptorName=http)'
        )
    listener = sockets[0]
    if (
        listener.family not in (socket.AF_INET, socket.AF_INET6)
        or listener.type != socket.SOCK_STREAM
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise HttpdError("what the service manager passed is not a listening TCP socket")
    has_address, has_port = listener.getsockname()[:2]
    for what, wanted, has in (("port", port, has_port), ("address", address, has_address)):
        if wanted not in (None, has):
            raise HttpdError(
                f"the service manager passed a socket with {what} {has}, not {wanted}:"
                f" leave --{what} out"
            )


def _words(error: OSError) -> str:
    """The reason, as Tcl words it."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror)
    text = os.strerror(error.errno)
    return text[:1].lower() + text[1:]
