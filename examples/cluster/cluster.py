"""Three web servers behind HAProxy, each in a process of its own; one that dies is started again.

    python examples/cluster/cluster.py [directory [port]]

The directory is examples/site unless given, and the port 8015; 0 takes a free one. It takes HAProxy
(Debian's package haproxy); haproxy.cfg beside this file says what it does. Ctrl-C ends all of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = 3


class Server:
    """``tclchan httpd`` for HAProxy alone, on a port that it keeps when it is started again."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tclchan", "httpd", "--root", self.root]
        command += ["--port", str(self.port), "--proxy-protocol", "--idle-timeout", "60"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a server does not start")
        self.port = int(line.split("http://127.0.0.1:")[1].split("/")[0])


def keep(server: Server, ended: threading.Event) -> None:
    """Start a server again whenever it ends, until all is to end."""
    while True:
        server.process.wait()
        if ended.is_set():
            return
        server.start()
        print(f"started again: process {server.process.pid}", flush=True)


def main(root: str = str(HERE.parent / "site"), port: str = "8015") -> int:
    haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if haproxy is None:
        print("haproxy is not installed: apt-get install haproxy", file=sys.stderr)
        return 1
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        servers = [Server(root) for _ in range(SERVERS)]
        ended = threading.Event()
        environment = {
            **os.environ,
            "CLUSTER_BIND": f"fd@{listener.fileno()}",
            **{f"CLUSTER_PORT_{i}": str(server.port) for i, server in enumerate(servers, 1)},
        }
        proxy = subprocess.Popen(
            [haproxy, "-db", "-f", str(HERE / "haproxy.cfg")],
            env=environment,
            pass_fds=[listener.fileno()],
        )
        threads = [threading.Thread(target=keep, args=(server, ended)) for server in servers]
        for thread in threads:
            thread.start()
        pids = " ".join(str(server.process.pid) for server in servers)
        print(
            f"serving {root} at http://127.0.0.1:{listener.getsockname()[1]}/ (processes {pids})",
            flush=True,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return proxy.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            ended.set()
            proxy.terminate()
            proxy.wait()
            for server, thread in zip(servers, threads, strict=True):
                while thread.is_alive():  # It may just be starting one again.
                    server.process.terminate()
                    thread.join(0.2)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
