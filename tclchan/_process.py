"""A worker as its supervisor sees it: a process, and a line to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ._control import encode
from ._platform import system
from ._snapshot import Snapshot
from .errors import HttpdError

START_SECONDS = 60.0
"""A worker that does not serve by then has not started."""

KILL_SECONDS = 3.0
"""So long after its time has come, a worker that has not ended is killed."""

WORKER_VARIABLE = "TCLCHAN_WORKER"
"""Makes a process a worker: the descriptors of its end of the line and of the listeners, and the
directory for its temporary files, which its supervisor removes."""


class WorkerProcess:
    """One process that serves the site; made by `start`.

    Attributes:
        number: that of its place among the workers.
        pid: its process id.
        began: when it was started, by `time.monotonic`.
        site: what it serves: the fields of `Site`.
        snapshot: what it last told of itself, see `Snapshot`; empty before the first time.
        answered: when its event loop last did so, or had begun to serve, by `time.monotonic`.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        directory: str,
    ) -> None:
        """Take over a process that was started, our end of the line to it, and its *directory*."""
        self.number = number
        self.pid = process.pid
        self.began = time.monotonic()
        self.site: dict[str, Any] = {}
        self.snapshot: Snapshot = {}
        self.answered = self.began
        self._process = process
        self._reader = reader
        self._writer = writer
        self._directory = directory
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, number: int, listeners: Sequence[socket.socket], words: Sequence[str]
    ) -> WorkerProcess:
        """Start a process, and wait until it serves.

        Args:
            number: that of its place among the workers.
            listeners: the sockets that it listens with.
            words: the command line of ``tclchan httpd``, which is the worker's too.

        Raises:
            HttpdError: it cannot be started, ended before it served, or does not within
                `START_SECONDS`.
        """
        try:
            directory = tempfile.mkdtemp(prefix="tclchan-httpd-")
            try:
                process, control = await _launch(listeners, words, directory)
            except BaseException:
                os.rmdir(directory)
                raise
            worker = cls(number, process, *await asyncio.open_connection(sock=control), directory)
        except OSError as error:
            # Descriptors are short, or Python is being installed anew.
            raise HttpdError(f"no process can be started: {error}") from error
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await worker._reader.readline()
                message = json.loads(line) if line else {}
                if "ready" not in message:
                    reason = await worker.wait()
                    raise HttpdError(message.get("failed") or f"the worker {reason}")
        except BaseException as error:
            # Not by force at first: it may have children.
            worker.send_signal(signal.SIGTERM)
            await worker.end(KILL_SECONDS)
            if isinstance(error, TimeoutError):
                raise HttpdError(f"the worker does not serve after {START_SECONDS:.0f} s") from None
            if isinstance(error, (OSError, ValueError)):
                raise HttpdError(f"the worker cannot be understood: {error}") from error
            raise
        worker.site = message["ready"]
        worker.answered = time.monotonic()
        worker._listening = asyncio.create_task(worker._listen())
        return worker

    def ask(self) -> None:
        """Have it bring `snapshot` and `answered` up to date, when its event loop comes to it."""
        self._tell({"stats": {}})

    def drain(self, grace: float, lull: float) -> None:
        """Have it end; see `Worker.drain`."""
        self._tell({"drain": {"grace": grace, "lull": lull}})

    async def end(self, seconds: float) -> str:
        """Kill it if it has not ended in so many seconds; say how it ended."""
        try:
            async with asyncio.timeout(seconds):
                return await self.wait()
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            return await self.wait()

    async def wait(self) -> str:
        """Wait for its end, and say how that came."""
        code = await self._process.wait()
        if self._listening is not None:
            self._listening.cancel()
        self._writer.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            message = json.loads(line)
            if "stats" in message:
                self.snapshot = message["stats"]
                self.answered = time.monotonic()

    def _tell(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


async def _launch(
    listeners: Sequence[socket.socket], words: Sequence[str], directory: str
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start a process; return it with our end of the line to it."""
    ours, theirs = socket.socketpair()
    descriptors = [sock.fileno() for sock in (theirs, *listeners)]
    with theirs:
        system.put_reopening_off()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tclchan", "httpd"),
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
                env={
                    **os.environ,
                    WORKER_VARIABLE: f"{','.join(map(str, descriptors))}:{directory}",
                },
            )
        except BaseException:
            ours.close()
            raise
        finally:
            system.put_reopening_off(False)
    return process, ours
