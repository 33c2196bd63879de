"""Open sockets and run servers that inherit them: ``supervisor.py COUNT SOCKET... -- COMMAND...``.

COUNT processes run COMMAND, each with all the sockets, from descriptor 3 on. A SOCKET is an address
to listen at, on a free port; ``dual`` for all of IPv6 and IPv4 with one socket, ``both`` with one
for each; ``tcp`` for a stream socket that does not listen, ``udp`` for none, ``unix`` for one of
another family.

A line ``I TEXT`` of standard input is given to process I as ``TEXT``; a line of its output is
printed as ``I TEXT``. ``I kill`` ends it, and ``I`` is printed when it has ended. At the end of
standard input all of them get the end of theirs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading

LOCK = threading.Lock()

# More clients than come at a time: those for whom there is no room knock again after a second.
QUEUE = 4096


def server(host: str, port: int, *, dualstack_ipv6: bool = False) -> socket.socket:
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        backlog=QUEUE,
        dualstack_ipv6=dualstack_ipv6,
    )


def opened(kind: str) -> list[socket.socket]:
    """Make what a word of the command line names."""
    if kind == "dual":
        return [server("::", 0, dualstack_ipv6=True)]
    if kind == "both":
        one = server("0.0.0.0", 0)
        try:
            return [one, server("::", one.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # The port is somebody's in IPv6. It is kept meanwhile, so that the next one is another.
        return opened(kind)
    if kind == "udp":
        return [socket.socket(type=socket.SOCK_DGRAM)]
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(b"\0tclchan-%d" % os.getpid())
        sock.listen()
        return [sock]
    if kind == "tcp":
        return [socket.socket()]
    return [server(kind, 0)]


def say(text: str) -> None:
    with LOCK:
        print(text, flush=True)


def relay(index: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        say(f"{index} {line.rstrip()}")
    process.wait()
    say(f"{index}")


def main() -> None:
    """Run the processes until they have ended."""
    words, command = sys.argv[2 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    sockets = [sock for word in words for sock in opened(word)]
    # To 3 and those behind it, where the sockets themselves may be in each other's way.
    copies = [fcntl.fcntl(sock, fcntl.F_DUPFD, 3 + len(sockets)) for sock in sockets]
    for place, sock in enumerate(sockets):
        sock.detach()
        os.dup2(copies[place], 3 + place)
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=range(3, 3 + len(sockets)),
            text=True,
            bufsize=1,
        )
        for _ in range(int(sys.argv[1]))
    ]
    for index, process in enumerate(processes):
        threading.Thread(target=relay, args=(index, process)).start()
    for line in sys.stdin:
        number, text = line.split(" ", 1)
        process = processes[int(number)]
        assert process.stdin is not None
        if text == "kill\n":
            process.kill()
        else:
            process.stdin.write(text)
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    main()
