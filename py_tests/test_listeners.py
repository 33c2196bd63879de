"""The listening sockets of the hosted servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

# "twice" has two addresses, in the resolver's order. The kernel has 16 ports to choose from; it
# tries those with odd numbers of the lower half first.
ALONE = """
mount --bind "$0" /etc/hosts && ip link set lo up &&
    echo 40000 40015 >/proc/sys/net/ipv4/ip_local_port_range && exec "$@"
"""
HOSTS = """127.0.0.1 twice
127.0.0.2 twice
"""

SCRIPT = """
import os
import socket
import sys
from tclchan._listeners import open_listeners
from tclchan.errors import HttpdError

taken = [
    socket.create_server((f"127.0.0.{address}", int(port)))
    for address in (1, 2)
    for port in sys.argv[address].split()
]
before = len(os.listdir("/proc/self/fd"))
for _ in range(20):
    try:
        listeners = open_listeners("twice", 0)
    except HttpdError as error:
        print(error)
        break
    assert len(listeners) == 2
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()
print(len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (([40001], [40005]), "0\n"),
        (
            (range(40000, 40016, 2), range(40001, 40016, 2)),
            "couldn't open socket: address already in use (twice port 0)\n0\n",
        ),
    ],
    ids=["some", "all"],
)
def test_port_0_is_free_at_each_address(
    taken: tuple[Iterable[int], Iterable[int]], said: str, tmp_path: Path
) -> None:
    """The port that is free at one address may be taken at the other."""
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    unshare = ["unshare", "-n", "-m", "-r", "sh", "-c", ALONE, str(hosts)]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network of our own: {tried.stderr.strip()}")
    done = subprocess.run(
        [
            *unshare,
            sys.executable,
            "-P",
            "-c",
            SCRIPT,
            *(" ".join(map(str, ports)) for ports in taken),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == said
