"""A file by sendfile(2), as a program of its own: ``sendfile.py FILE``. One client at a time."""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Serve until the process is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener, open(sys.argv[1], "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
        print("ready", listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(head)
                sent = 0
                while sent < size:
                    sent += os.sendfile(sock.fileno(), file.fileno(), sent, size - sent)


if __name__ == "__main__":
    main()
