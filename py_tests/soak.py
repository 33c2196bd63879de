"""What users of iocpsock reported and nobody ever explained, at length: ``make soak``.

A server in Tcl sends a large file to slow clients that read in bursts, over listeners with a
-sendcap of 1, 2 and 20. Meanwhile others connect and reset, before they are accepted and after,
or send half a request and go, or go in the middle of their download. Every download arrives whole,
the server's script gets no error, and after each round it has the descriptors and the memory that
it had before.

test_soak.py runs one short round for each engine. `make soak MINUTES=30` runs the tests of
regress*.test with their long counts on every engine, with several seeds on the simulated one, and
then rounds of this for so many minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from conftest import tclsh_of
from talker import Talker

HERE = Path(__file__).resolve().parent
TCL_TESTS = HERE.parent / "tcl_tests"
CAPS = (1, 2, 20)
STALLED_S = 60.0
SEEDS = range(1, 6)
MB = 1_000_000


@dataclass
class Load:
    """What one round does; the numbers are for each of the three listeners."""

    size: int  # of the file
    downloads: int
    probes: int  # that reset, half of them before they are accepted
    aborts: int  # half-sent requests, and downloads that are given up


SHORT = Load(size=12 * MB, downloads=4, probes=150, aborts=100)
LONG = Load(size=120 * MB, downloads=10, probes=2000, aborts=1000)


def write_file(path: Path, size: int) -> int:
    """Fill a file so that no two blocks are equal; return its checksum."""
    block = random.Random(1).randbytes(1 << 20)
    crc = 0
    with path.open("wb") as file:
        for number in range(0, size, len(block)):
            data = (number.to_bytes(8, "big") + block[8:])[: size - number]
            crc = zlib.crc32(data, crc)
            file.write(data)
    return crc


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Download:
    """A client that reads a little, then nothing for a while, then much."""

    def __init__(self, port: int, luck: random.Random) -> None:
        self.sock = socket.socket()
        if luck.random() < 0.5:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(b"please\n")
        self.sock.setblocking(False)
        self.luck = luck
        self.got = 0
        self.crc = 0
        self.error = ""
        self.done = False
        self.due = 0.0

    def burst(self) -> int:
        """Read up to so many bytes, and decide when to go on."""
        want = self.luck.choice((1000, 30_000, 1_000_000, 8_000_000))
        before = self.got
        try:
            while want > 0 and (data := self.sock.recv(min(want, 1 << 18))):
                self.got += len(data)
                self.crc = zlib.crc32(data, self.crc)
                want -= len(data)
            self.done = want > 0
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = str(error)
            self.done = True
        if self.done:
            self.sock.close()
        elif self.luck.random() < 0.1:
            self.due = time.monotonic() + self.luck.random() * 0.05
        return self.got - before


def download_all(downloads: list[Download]) -> None:
    """Let the clients read until each has its end; none may wait for STALLED_S for a byte."""
    selector = selectors.DefaultSelector()
    for one in downloads:
        selector.register(one.sock, selectors.EVENT_READ, one)
    resting: list[Download] = []
    last = time.monotonic()
    while selector.get_map() or resting:
        for key, _ in selector.select(0.01 if resting else 1.0):
            one = key.data
            fileno = key.fileobj
            if one.burst() or one.done:
                last = time.monotonic()
            if one.done or one.due:
                selector.unregister(fileno)
            if one.due and not one.done:
                resting.append(one)
        now = time.monotonic()
        for one in [one for one in resting if one.due <= now]:
            resting.remove(one)
            one.due = 0.0
            selector.register(one.sock, selectors.EVENT_READ, one)
        if now - last > STALLED_S:
            stalled = [one.got for one in downloads if not one.done]
            raise AssertionError(f"{len(stalled)} downloads have stalled, at {stalled} bytes")


def disturb(port: int, load: Load, luck: random.Random) -> None:
    """Connect and reset, send half a request and go, give a download up."""
    kinds = ["probe"] * load.probes + ["abort"] * load.aborts
    luck.shuffle(kinds)
    for kind in kinds:
        try:
            sock = socket.create_connection(("127.0.0.1", port), STALLED_S)
        except OSError as error:
            raise AssertionError(f"the server does not accept: {error}") from error
        # Whatever we send may meet nothing that we have not brought about ourselves.
        with contextlib.suppress(OSError):
            if kind == "probe":
                if luck.random() < 0.5:
                    time.sleep(0.002)  # By now it is accepted, most often.
                reset(sock)
                continue
            if luck.random() < 0.8:
                sock.sendall(b"pleas")
            else:
                sock.sendall(b"please\n")
                sock.recv(luck.randrange(1, 100_000))
            if luck.random() < 0.5:
                reset(sock)
        sock.close()


class Server:
    """The Tcl server on one engine."""

    def __init__(self, tclsh: str, engine: str, library: Path, file: Path, seconds: float) -> None:
        environment = {"TCLCHAN_ENGINE": engine, "TCLCHAN_LIBDIR": str(library)}
        command = [tclsh, str(HERE / "soak.tcl"), str(file)]
        self.talker = Talker(command, environment, seconds)
        self.ports = [int(word) for word in self.talker.answer().split()]

    def number(self, name: str) -> int:
        return int(self.talker.ask(f"dict get [report] {name}"))

    def settle(self, before: dict[str, int]) -> None:
        """Wait until what was opened for a round is closed again."""
        end = time.monotonic() + STALLED_S
        while (now := {name: self.number(name) for name in before}) != before:
            assert time.monotonic() < end, f"left over: {now}, not {before}"
            time.sleep(0.05)


def play_round(server: Server, load: Load, crc: int, seed: int) -> dict[str, int]:
    """One round; what it counted. Raises AssertionError for whatever is wrong."""
    luck = random.Random(seed)
    kept = {name: server.number(name) for name in ("fds", "socketsOpen", "heapBytes")}
    kept["bytesQueued"] = 0
    counted = ("whole", "called", "accepts", "acceptsDead", "broken")
    before = {name: server.number(name) for name in counted}
    failures: list[BaseException] = []

    def guarded(port: int, luck: random.Random) -> None:
        try:
            disturb(port, load, luck)
        except BaseException as error:  # it belongs to the main thread
            failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(port, random.Random(luck.random())), daemon=True)
        for port in server.ports
    ]
    downloads = [Download(port, luck) for port in server.ports for _ in range(load.downloads)]
    for thread in threads:
        thread.start()
    download_all(downloads)
    for thread in threads:
        thread.join(10 * STALLED_S)
    assert not any(thread.is_alive() for thread in threads), "resetting clients have stalled"
    if failures:
        raise failures[0]
    wrong = [one for one in downloads if (one.got, one.crc) != (load.size, crc)]
    assert not wrong, f"{len(wrong)} downloads are wrong: {[(w.got, w.error) for w in wrong]}"
    server.settle(kept)
    now = {name: server.number(name) - before[name] for name in counted}
    connections = len(CAPS) * (load.downloads + load.probes + load.aborts)
    assert now["called"] == now["accepts"], f"{now}"
    assert now["accepts"] + now["acceptsDead"] == connections, f"{now}, not {connections}"
    # A download that was given up may have been small enough for the kernel to take.
    assert now["whole"] >= len(downloads), f"{now}: not every fcopy has called back"
    bad = {name: server.number(name) for name in ("wrong", "errors")}
    assert bad == {"wrong": 0, "errors": 0}, f"{bad}: {server.talker.ask('set lastError')}"
    return now


def soak(tclsh: str, engine: str, library: Path, load: Load, seconds: float, seed: int = 1) -> str:
    """Play rounds for so many seconds, at least one; return a summary."""
    start = time.monotonic()
    totals = dict.fromkeys(("rounds", "whole", "acceptsDead", "broken", "accepts"), 0)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "file.bin"
        crc = write_file(file, load.size)
        server = Server(tclsh, engine, library, file, seconds + 20 * STALLED_S)
        try:
            while totals["rounds"] == 0 or time.monotonic() - start < seconds:
                now = play_round(server, load, crc, seed + totals["rounds"])
                totals["rounds"] += 1
                for name in totals.keys() - {"rounds"}:
                    totals[name] += now[name]
                print(
                    f"{engine}: {time.monotonic() - start:.0f} s, round {totals['rounds']}:"
                    f" {now['whole']} downloads, {now['acceptsDead']} dead probes,"
                    f" memory {server.number('rss') // MB} MB",
                    flush=True,
                )
            sent = server.number("bytesSent")
        finally:
            code = server.talker.end()
    assert code == 0, f"the server ended with {code}"
    return (
        f"{engine}: {totals['rounds']} rounds in {time.monotonic() - start:.0f} s,"
        f" {totals['whole']} downloads, {sent / 1e9:.1f} GB, {totals['accepts']} accepted,"
        f" {totals['acceptsDead']} dead before, {totals['broken']} broken off; nothing lost or left"
    )


def engines(tclsh: str, library: Path) -> list[str]:
    script = """
        lappend auto_path $env(TCLCHAN_LIBDIR)
        package require Iocpsock
        foreach info [iocp::engines] {
            if {[dict get $info usable]} {
                puts [dict get $info name]
            }
        }
    """
    done = subprocess.run(
        [tclsh],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TCLCHAN_LIBDIR": str(library), "TCLCHAN_ENGINE": "auto"},
    )
    return done.stdout.split()


def regress(tclsh: str, engine: str, library: Path, seed: int = 0) -> str:
    """Run regress*.test; with long counts, or else (simulated engine) with a seed of its luck."""
    environment = {
        **os.environ,
        "TCLCHAN_ENGINE": engine,
        "TCLCHAN_LIBDIR": str(library),
        "TCLCHAN_PYTHON": sys.executable,
        "TCLCHAN_SIM_SEED": str(seed),
        "TCLCHAN_SOAK": "0" if seed else "1",
        # Nothing that these would skip is to be taken for tested.
        "TCLCHAN_REQUIRE": "driver testing peer proc thread zlib",
    }
    done = subprocess.run(
        [tclsh, str(TCL_TESTS / "all.tcl"), "-file", "regress*.test"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    totals = re.search(r"Total\t(\d+)\tPassed\t(\d+)\t", done.stdout)
    if done.returncode != 0 or totals is None:
        raise AssertionError(done.stdout + done.stderr)
    return f"{engine}{f', seed {seed}' if seed else ''}: {totals[2]} of {totals[1]} tests passed"


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the driver under load for a long time.")
    parser.add_argument("--library", type=Path, required=True, help="where libiocpsock.so is")
    parser.add_argument("--minutes", type=float, default=30.0, help="of load, for all engines")
    parser.add_argument("--engine", action="append", help="instead of every one that is usable")
    arguments = parser.parse_args()
    library = arguments.library.resolve()
    found = tclsh_of("8.6")
    assert found is not None, "no tclsh: install the package tcl"
    tclsh = found.path
    chosen = arguments.engine or engines(tclsh, library)
    summary: list[str] = []
    failed = 0
    jobs = [
        (regress, (tclsh, engine, library, seed))
        for engine in chosen
        for seed in (SEEDS if engine == "sim" else [0])
    ] + [
        (soak, (tclsh, engine, library, LONG, 60 * arguments.minutes / len(chosen)))
        for engine in chosen
    ]
    for job, words in jobs:
        try:
            line = job(*words)
        except AssertionError as error:
            failed += 1
            line = f"{words[1]}: FAILED: {error}"
        print(line, flush=True)
        summary.append(line)
    print("\n".join(["", "In short:", *(line.splitlines()[0] for line in summary)]))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
