"""A file without Tcl, as a program of its own: ``download.py FILE [SIZE]``. One client at a time.

By sendfile(2); or with SIZE, by read(2) and send(2) of so many bytes, which is what ``fcopy`` does.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import BinaryIO


def main() -> None:
    """Serve until the process is ended."""
    path, *sizes = sys.argv[1:]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        open(path, "rb", buffering=0) as file,
    ):
        size = os.fstat(file.fileno()).st_size
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
        print("ready", listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(head)
                if sizes:
                    copy(file, sock, int(sizes[0]))
                else:
                    send(file, sock, size)


def send(file: BinaryIO, sock: socket.socket, size: int) -> None:
    """Let the kernel send the file."""
    sent = 0
    while sent < size:
        sent += os.sendfile(sock.fileno(), file.fileno(), sent, size - sent)


def copy(file: BinaryIO, sock: socket.socket, size: int) -> None:
    """Read the file and send it, *size* bytes at a time."""
    buffer = memoryview(bytearray(size))
    file.seek(0)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        sock.sendall(buffer[:count])


if __name__ == "__main__":
    main()
