"""A flood of connections that nobody means to make: the listener goes on serving the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In a network of its own, whose loopback has the way to the senders' addresses: nobody is there.
SCRIPT = """
import random, socket, struct, sys
import tclchan

SYNS, CLIENTS = 20_000, 50

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

def syn(source, port, luck):
    target = socket.inet_aton("127.0.0.1")
    fields = [luck.randrange(1024, 65536), port, luck.getrandbits(32), 0, 5 << 4, 2, 65535]
    pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
    tcp = struct.pack("!HHIIBBHHH", *fields, 0, 0)
    tcp = struct.pack("!HHIIBBHHH", *fields, checksum(pseudo + tcp), 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + source + target + tcp

def half_open(port):
    lines = open("/proc/net/tcp").read().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "03"
               for line in lines)

luck = random.Random(1)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
with tclchan.Interp(engine=sys.argv[1]) as tcl:
    tcl.eval('''
        set called 0
        set listener [socket2 -server {apply {{chan args} {
            incr ::called
            puts $chan served
            close $chan
        }}} -myaddr 127.0.0.1 0]
        fconfigure $listener -backlog 100
        proc once {} {
            after 1 {set over 1}
            vwait over
        }
    ''')
    port = int(tcl.eval("lindex [fconfigure $listener -sockname] 2"))
    heard = most = 0
    for number in range(CLIENTS):
        for _ in range(SYNS // CLIENTS):
            source = socket.inet_aton(f"198.18.{luck.randrange(256)}.{luck.randrange(1, 255)}")
            raw.sendto(syn(source, port, luck), ("127.0.0.1", 0))
        most = max(most, half_open(port))
        client = socket.create_connection(("127.0.0.1", port), 20)
        while int(tcl.eval("set called")) <= number:
            tcl.eval("once")
        heard += client.recv(100).startswith(b"served")
        client.close()
    print(heard, most > 50 or most, tcl.eval('''
        set stats [iocp::stats]
        list $called [dict get $stats accepts] [dict get $stats acceptErrors] \\
            [dict get $stats acceptPauses] [fconfigure $listener -backlog]
    '''))
"""

ALONE = 'ip link set lo up && ip route add 198.18.0.0/16 dev lo && exec "$@"'


def test_a_listener_serves_amid_a_flood(engine: str, tmp_path: Path) -> None:
    unshare = ["unshare", "-n", "-r", "sh", "-c", ALONE, "sh"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network of our own: {tried.stderr.strip()}")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", SCRIPT, engine],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=90,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "50 True 50 50 0 0 {100 0}\n"
