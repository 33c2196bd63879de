"""The other end of a connection, for what a Tcl script cannot do with a socket.

A test starts one of these behind a pipe and gives it one command a line; the answer is one line.
Each command is finished when its answer comes, so a test knows what the peer has done without
waiting for any length of time, and the test's own event loop does not run meanwhile.

    listen ?rcvbuf?     -> port             a listener on 127.0.0.1
    accept PORT         -> ID ADDR PORT     the next connection of that listener
    connect PORT ?rcvbuf? -> ID             a connection to that port of 127.0.0.1
    port ID             -> port             this end's own port
    send ID N ?FROM?    -> ok               N bytes of the payload, beginning at byte FROM
    sendhex ID HEX      -> ok
    feed ID N FATE      -> ok               from now on, by itself, N bytes of the payload; then
                                            FATE: keep, fin or rst
    flood ID            -> N                payload for as long as the kernel takes it; what it took
    recv ID N           -> GOT CRC EOF      up to N bytes, until N or the end (EOF 1, or the error)
    recvhex ID N        -> HEX EOF
    take ID             -> N EOF            reads what is there now; how much
    taken ID            -> N CRC            all that `take` has read so far
    drain ID            -> ok               reads from now on, by itself
    drained ID          -> N CRC EOF        all that it has read so far
    answer ID N HEX     -> ok               from now on, and while other commands go on: reads N
                                            bytes as by `take`, a little at a time, then sends HEX
    pending ID          -> N                bytes that can be read now
    shut ID             -> ok               FIN, while reading goes on
    close ID            -> ok
    rst ID              -> ok               closes with a reset
    forget              -> ok               resets all connections
    storm PORT N        -> ok               N connections, each reset as soon as it stands
    many PORT N         -> ID ID ...        N connections
    reserve             -> port             a port that refuses connections for as long as we live
    blackhole           -> port             a port that leaves connections pending
    open PORT           -> ok               lets the blackhole take connections from now on
    unlisten PORT       -> ok               closes it, or a listener: the port refuses
    mptcp PORT          -> ID               a connection that asks for MPTCP
    mptcplisten         -> port             a listener that offers MPTCP
    fellback ID         -> 0 or 1           whether an MPTCP connection has become a TCP one
    relay PORT CHUNK OUT BACK FATE -> port  hands the next connection of that port on to PORT,
                                            CHUNK bytes at a time: OUT bytes to PORT, BACK bytes
                                            from it (-1: no limit); then both ends get FATE, which
                                            is fin or rst
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import sys
import threading
import zlib

TIMEOUT_S = 20.0
LOOPBACK = "127.0.0.1"
MPTCP, SOL_MPTCP, MPTCP_INFO = 262, 284, 1

# The same stream as `payload` in common.tcl. The period is prime, so that no reordering of blocks
# of the usual sizes maps the stream onto itself.
PERIOD = 65537


def _block() -> bytes:
    out = bytearray()
    seed = 12345
    for _ in range(PERIOD):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(seed >> 16 & 0xFF)
    return bytes(out)


BLOCK = _block()


def payload(count: int, start: int = 0) -> bytes:
    """Return *count* bytes of the endless test stream from byte *start* on."""
    skip = start % PERIOD
    return (BLOCK * ((skip + count) // PERIOD + 1))[skip : skip + count]


class Relay(threading.Thread):
    """Two connections made into one, until a limit is reached."""

    def __init__(self, port: int, chunk: int, limits: list[int], fate: str) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server((LOOPBACK, 0))
        self.listener.settimeout(TIMEOUT_S)
        self.port = port
        self.chunk = chunk
        self.limits = limits
        self.fate = fate
        self.moved = [0, 0]

    def run(self) -> None:
        with self.listener:
            client = self.listener.accept()[0]
        ends = [client, socket.create_connection((LOOPBACK, self.port), TIMEOUT_S)]
        for end in ends:
            # What came in pieces shall leave in pieces.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while self.moved[0] != self.limits[0] and self.moved[1] != self.limits[1]:
            try:
                for end in select.select(ends, [], [], TIMEOUT_S)[0]:
                    if not self._move(ends, ends.index(end)):
                        break
                else:
                    continue
            except OSError:
                pass
            break
        if self.fate == "rst":
            for end in ends:
                Peer.reset(end)
            return
        for end in ends:
            try:
                end.shutdown(socket.SHUT_WR)
                while end.recv(1 << 16):
                    pass
            except OSError:
                pass
        for end in ends:
            end.close()

    def _move(self, ends: list[socket.socket], source: int) -> bool:
        left = self.limits[source] - self.moved[source]
        data = ends[source].recv(min(self.chunk, left) if left > 0 else self.chunk)
        ends[1 - source].sendall(data)
        self.moved[source] += len(data)
        return bool(data) and left != len(data)


class Peer:
    """State of one peer process: sockets by number, listeners by port."""

    def __init__(self) -> None:
        self.conns: dict[str, socket.socket] = {}
        self.listeners: dict[str, socket.socket] = {}
        self.kept: list[socket.socket] = []
        self.sums: dict[str, tuple[int, int]] = {}
        self.ends: dict[str, str] = {}
        self.count = 0

    def _add(self, sock: socket.socket) -> str:
        sock.settimeout(TIMEOUT_S)
        self.count += 1
        key = f"p{self.count}"
        self.conns[key] = sock
        return key

    def do_listen(self, rcvbuf: str = "") -> str:
        sock = socket.socket()
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(rcvbuf))
        return self._listen(sock, 1024)

    def _listen(self, sock: socket.socket, backlog: int) -> str:
        sock.bind((LOOPBACK, 0))
        sock.listen(backlog)
        sock.settimeout(TIMEOUT_S)
        port = str(sock.getsockname()[1])
        self.listeners[port] = sock
        return port

    def do_accept(self, port: str) -> str:
        sock, address = self.listeners[port].accept()
        return f"{self._add(sock)} {address[0]} {address[1]}"

    def do_connect(self, port: str, rcvbuf: str = "") -> str:
        sock = socket.socket()
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(rcvbuf))
        sock.settimeout(TIMEOUT_S)
        sock.connect((LOOPBACK, int(port)))
        return self._add(sock)

    def do_mptcp(self, port: str) -> str:
        sock = socket.socket(proto=MPTCP)
        sock.settimeout(TIMEOUT_S)
        sock.connect((LOOPBACK, int(port)))
        return self._add(sock)

    def do_mptcplisten(self) -> str:
        return self._listen(socket.socket(proto=MPTCP), 128)

    def do_fellback(self, key: str) -> str:
        # struct mptcp_info: eight bytes of counts, then the flags, of which bit 0 is a fallback.
        try:
            info = self.conns[key].getsockopt(SOL_MPTCP, MPTCP_INFO, 12)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # a TCP socket, or one that has become such
                return "1"
            raise
        return str(struct.unpack_from("I", info, 8)[0] & 1)

    def do_port(self, key: str) -> str:
        return str(self.conns[key].getsockname()[1])

    def do_send(self, key: str, count: str, start: str = "0") -> str:
        self.conns[key].sendall(payload(int(count), int(start)))
        return "ok"

    def do_sendhex(self, key: str, data: str) -> str:
        self.conns[key].sendall(bytes.fromhex(data))
        return "ok"

    def do_feed(self, key: str, count: str, fate: str) -> str:
        args = (key, self.conns[key], int(count), fate)
        threading.Thread(target=self._feed, args=args, daemon=True).start()
        return "ok"

    def _feed(self, key: str, sock: socket.socket, count: int, fate: str) -> None:
        try:
            for start in range(0, count, 1 << 20):
                sock.sendall(payload(min(1 << 20, count - start), start))
            if fate == "fin":
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        if fate == "rst" and self.conns.pop(key, None) is not None:
            self.reset(sock)

    def do_flood(self, key: str) -> str:
        sock = self.conns[key]
        sent = 0
        sock.setblocking(False)
        try:
            while True:
                sent += sock.send(payload(65536, sent))
        except BlockingIOError:
            pass
        finally:
            sock.settimeout(TIMEOUT_S)
        return str(sent)

    def _read(self, key: str, count: int) -> tuple[bytes, str]:
        sock = self.conns[key]
        parts: list[bytes] = []
        left = count
        while left > 0:
            try:
                data = sock.recv(min(left, 1 << 20))
            except OSError as error:
                return b"".join(parts), type(error).__name__
            if not data:
                return b"".join(parts), "1"
            parts.append(data)
            left -= len(data)
        return b"".join(parts), "0"

    def do_recv(self, key: str, count: str) -> str:
        data, eof = self._read(key, int(count))
        return f"{len(data)} {zlib.crc32(data)} {eof}"

    def do_recvhex(self, key: str, count: str) -> str:
        data, eof = self._read(key, int(count))
        return f"{{{data.hex()}}} {eof}"

    def do_take(self, key: str) -> str:
        sock = self.conns[key]
        total, crc = self.sums.get(key, (0, 0))
        before = total
        eof = "0"
        sock.setblocking(False)
        try:
            while True:
                data = sock.recv(1 << 20)
                if not data:
                    eof = "1"
                    break
                total += len(data)
                crc = zlib.crc32(data, crc)
        except BlockingIOError:
            pass
        except OSError as error:
            eof = type(error).__name__
        finally:
            sock.settimeout(TIMEOUT_S)
        self.sums[key] = (total, crc)
        return f"{total - before} {eof}"

    def do_taken(self, key: str) -> str:
        total, crc = self.sums.get(key, (0, 0))
        return f"{total} {crc}"

    def do_drain(self, key: str) -> str:
        self.sums[key] = (0, 0)
        self.ends[key] = "0"
        sock = self.conns[key]
        sock.settimeout(None)
        threading.Thread(target=self._drain, args=(key, sock), daemon=True).start()
        return "ok"

    def _drain(self, key: str, sock: socket.socket) -> None:
        end = "1"
        try:
            while data := sock.recv(1 << 20):
                total, crc = self.sums[key]
                self.sums[key] = (total + len(data), zlib.crc32(data, crc))
        except OSError as error:
            end = type(error).__name__
        self.ends[key] = end

    def do_drained(self, key: str) -> str:
        end = self.ends[key]
        total, crc = self.sums[key]
        return f"{total} {crc} {end}"

    def do_answer(self, key: str, count: str, data: str) -> str:
        args = (key, self.conns[key], int(count), bytes.fromhex(data))
        threading.Thread(target=self._answer, args=args, daemon=True).start()
        return "ok"

    def _answer(self, key: str, sock: socket.socket, count: int, data: bytes) -> None:
        with contextlib.suppress(OSError):
            while self.sums.get(key, (0, 0))[0] < count:
                piece = sock.recv(4096)
                if not piece:
                    return
                total, crc = self.sums.get(key, (0, 0))
                self.sums[key] = (total + len(piece), zlib.crc32(piece, crc))
            sock.sendall(data)

    def do_pending(self, key: str) -> str:
        sock = self.conns[key]
        sock.setblocking(False)
        try:
            return str(len(sock.recv(1 << 24, socket.MSG_PEEK)))
        except BlockingIOError:
            return "0"
        finally:
            sock.settimeout(TIMEOUT_S)

    def do_shut(self, key: str) -> str:
        self.conns[key].shutdown(socket.SHUT_WR)
        return "ok"

    def do_close(self, key: str) -> str:
        self.conns.pop(key).close()
        return "ok"

    def do_rst(self, key: str) -> str:
        self.reset(self.conns.pop(key))
        return "ok"

    @staticmethod
    def reset(sock: socket.socket) -> None:
        """Close with a reset."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def do_forget(self) -> str:
        for key in list(self.conns):
            sock = self.conns.pop(key, None)
            if sock is None:  # A thread has reset it.
                continue
            with contextlib.suppress(OSError):
                # A thread of ours that waits for the socket would keep it from being closed.
                sock.shutdown(socket.SHUT_RDWR)
            self.reset(sock)
        return "ok"

    def do_storm(self, port: str, count: str) -> str:
        for _ in range(int(count)):
            sock = socket.create_connection((LOOPBACK, int(port)), TIMEOUT_S)
            self.reset(sock)
        return "ok"

    def do_many(self, port: str, count: str) -> str:
        return " ".join(self.do_connect(port) for _ in range(int(count)))

    def do_reserve(self) -> str:
        sock = socket.socket()
        sock.bind((LOOPBACK, 0))
        self.kept.append(sock)
        return str(sock.getsockname()[1])

    def do_blackhole(self) -> str:
        sock = socket.socket()
        sock.bind((LOOPBACK, 0))
        sock.listen(0)
        sock.settimeout(TIMEOUT_S)
        # With its accept queue full the kernel answers no further SYN.
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            self.kept.append(client)
        port = str(sock.getsockname()[1])
        self.listeners[port] = sock
        return port

    def do_open(self, port: str) -> str:
        self.listeners[port].listen(128)
        return "ok"

    def do_unlisten(self, port: str) -> str:
        self.listeners.pop(port).close()
        return "ok"

    def do_relay(self, port: str, chunk: str, out: str, back: str, fate: str) -> str:
        relay = Relay(int(port), int(chunk), [int(out), int(back)], fate)
        relay.start()
        return str(relay.listener.getsockname()[1])


def main() -> None:
    """Serve commands from standard input until it ends."""
    peer = Peer()
    for line in sys.stdin:
        words = line.split()
        try:
            answer = getattr(peer, f"do_{words[0]}")(*words[1:])
        except Exception as error:  # the test shows it; the peer must live on
            answer = f"error {type(error).__name__}: {error}"
        print(answer, flush=True)


if __name__ == "__main__":
    main()
