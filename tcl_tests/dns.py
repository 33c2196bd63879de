"""A name server that answers when it is told to, for programs that share its network namespace.

It binds port 53 of the loopback interface, which it switches on first: a fresh network namespace
has it off. It takes one command a line and gives one line back.

    asked NAME              -> ok       waits until somebody has asked for the name
    answer NAME ADDRESS ... -> ok       the name has these addresses, for whoever waits too
    deny NAME               -> ok       there is no such name
"""

from __future__ import annotations

import fcntl
import ipaddress
import select
import socket
import struct
import sys

A, AAAA = 1, 28
NO_SUCH_NAME = 3
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Do what ``ip link set lo up`` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def parse(packet: bytes) -> tuple[str, int, int]:
    """Return the name that a query asks for, its type, and where the question ends."""
    labels = []
    at = 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    kind = struct.unpack_from("!H", packet, at + 1)[0]
    return ".".join(labels).lower(), kind, at + 5


class Server:
    """The queries that wait for an answer, and what is known."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 53))
        self.known: dict[str, list[str] | None] = {}
        self.waiting: list[tuple[bytes, tuple[str, int]]] = []
        self.asked: set[str] = set()

    def reply(self, packet: bytes, client: tuple[str, int]) -> None:
        name, kind, end = parse(packet)
        addresses = self.known[name]
        records = b""
        count = 0
        for text in addresses or []:
            address = ipaddress.ip_address(text)
            if kind == {4: A, 6: AAAA}[address.version]:
                records += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(address.packed))
                records += address.packed
                count += 1
        flags = 0x8180 | (NO_SUCH_NAME if addresses is None else 0)
        header = packet[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0)
        self.sock.sendto(header + packet[12:end] + records, client)

    def receive(self) -> None:
        packet, client = self.sock.recvfrom(4096)
        name = parse(packet)[0]
        self.asked.add(name)
        if name in self.known:
            self.reply(packet, client)
        else:
            self.waiting.append((packet, client))

    def tell(self, name: str, addresses: list[str] | None) -> None:
        self.known[name] = addresses
        waiting, self.waiting = self.waiting, []
        for packet, client in waiting:
            if parse(packet)[0] == name:
                self.reply(packet, client)
            else:
                self.waiting.append((packet, client))

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([self.sock, sys.stdin], [], [])
            if self.sock in ready:
                self.receive()
                continue
            words = sys.stdin.readline().split()
            if not words:
                return
            if words[0] == "asked":
                while words[1] not in self.asked:
                    self.receive()
            else:
                self.tell(words[1], words[2:] if words[0] == "answer" else None)
            print("ok", flush=True)


if __name__ == "__main__":
    loopback_up()
    server = Server()
    print("ok", flush=True)
    server.serve()
