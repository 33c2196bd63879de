"""100 MB through the code of each server: whole, 50 times side by side, nothing left behind.

That is 5 GB for each server and engine, and takes about ten seconds. TCLCHAN_DOWNLOAD_MB makes it
shorter, for machines that are slow.
"""

from __future__ import annotations

import hashlib
import os
import random
import selectors
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpclient import SERVERS, Server, reset, serve, wait_for

MB = 1_000_000
SIZE = int(os.environ.get("TCLCHAN_DOWNLOAD_MB", "100")) * MB
CLIENTS = 50
SECONDS = 180


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("downloads")
    write_files(root)
    return root


def write_files(root: Path) -> None:
    block = random.Random(1).randbytes(1 << 20)
    with (root / "file.bin").open("wb") as file:
        # Every block differs from the others, so that a lost or doubled one is noticed.
        for number in range(0, SIZE, len(block)):
            mark = number.to_bytes(8, "big")
            file.write((mark + block[8:])[: SIZE - number])
    (root / "first.bin").write_bytes(block)


@pytest.fixture(scope="module")
def checksum(root: Path) -> str:
    with (root / "file.bin").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(params=SERVERS)
def server(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path, root: Path
) -> Iterator[Server]:
    with serve(engine, request.param, tmp_path, "--grace", "1", root=root) as hosted:
        # The engine keeps what it opens for its first file.
        assert len(hosted.raw(b"GET /first.bin HTTP/1.0\r\nHost: a\r\n\r\n")) > 1 << 20
        yield hosted


ASK = b"GET /file.bin HTTP/1.0\r\nHost: a\r\n\r\n"


class Download:
    """One client that takes a file as it comes, or for its first seconds in small bites only."""

    def __init__(self, server: Server, *, slow: bool = False, gone_after: int = 0) -> None:
        self.sock = server.connect(4096 if slow else 0)
        self.sock.setblocking(True)
        self.sock.sendall(ASK)
        self.sock.setblocking(False)
        self.slow = slow
        self.pauses = 100 if slow else 0
        self.gone_after = gone_after
        self.header = b""
        self.digest = hashlib.sha256()
        self.count = 0
        self.not_before = 0.0
        self.done = False

    def take(self) -> None:
        try:
            chunk = self.sock.recv(8192 if self.slow else 1 << 18)
        except BlockingIOError:
            return
        if not chunk:
            self.done = True
            self.sock.close()
            return
        if b"\n\n" not in self.header.replace(b"\r", b""):
            self.header += chunk
            head, found, chunk = self.header.replace(b"\r\n\r\n", b"\n\n", 1).partition(b"\n\n")
            if not found:
                return
            self.header = head + found
        self.digest.update(chunk)
        self.count += len(chunk)
        if self.pauses:
            self.pauses -= 1
            self.not_before = time.monotonic() + 0.02
        if self.gone_after and self.count > self.gone_after:
            self.done = True
            reset(self.sock)


def run(downloads: list[Download], seconds: float) -> None:
    end = time.monotonic() + seconds
    while left := [download for download in downloads if not download.done]:
        now = time.monotonic()
        assert now < end, f"{len(left)} downloads stand still at {[d.count for d in left][:9]}"
        ready = [download for download in left if download.not_before <= now]
        with selectors.DefaultSelector() as selector:
            for download in ready:
                selector.register(download.sock, selectors.EVENT_READ, download)
            for key, _ in selector.select(0.02):
                key.data.take()


def test_one_download(server: Server, checksum: str) -> None:
    before = server.at_rest()
    memory = server.memory()
    download = Download(server)
    run([download], SECONDS)
    assert download.count == SIZE
    assert download.digest.hexdigest() == checksum
    wait_for(lambda: server.holdings() == before, what=f"{before}, now {server.holdings()}")
    assert server.memory() - memory < 16 * MB
    # tcllib's copies 4 kB at a time, which is nothing for the kernel.
    assert (server.stats()["counters"]["bytesCopied"] >= SIZE) == (server.server != "tcllib")


@pytest.mark.timeout(SECONDS + 60)
def test_50_downloads_side_by_side(server: Server, checksum: str) -> None:
    before = server.at_rest()
    memory = server.memory()
    downloads = [
        Download(server, slow=i % 10 == 0, gone_after=SIZE // 2 if i % 10 == 5 else 0)
        for i in range(CLIENTS)
    ]
    run(downloads, SECONDS)
    for download in downloads:
        if not download.gone_after:
            assert download.count == SIZE
            assert download.digest.hexdigest() == checksum
    wait_for(lambda: server.holdings() == before, what=f"{before}, now {server.holdings()}")
    # The buffers of 50 connections, whatever the size of the file.
    assert server.memory() - memory < 128 * MB


def test_reader_that_stops(server: Server) -> None:
    """A client that takes nothing more holds up neither the others, nor the end for long."""
    with server.connect(4096) as idle:
        idle.sendall(ASK)
        assert idle.recv(1000)
        download = Download(server)
        run([download], SECONDS)
        assert download.count == SIZE
        assert server.end(signal.SIGTERM, seconds=5) == 0


def test_client_gone_in_the_header(server: Server) -> None:
    """The answer fails before its first byte: no file and no channel may stay open."""
    before = server.at_rest()
    for _ in range(50):
        with server.connect() as sock:
            sock.sendall(ASK)
            reset(sock)
    wait_for(lambda: server.holdings() == before, what=f"{before}, now {server.holdings()}")
