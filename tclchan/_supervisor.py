"""``tclchan httpd --workers``: a process that keeps others at work, which serve one site.

The supervisor has no Tcl interpreter. It keeps the listening sockets, which all workers have: what
waits in the queue goes to the worker that is free first, and is not lost with any of them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import _logs, _monitor
from ._httpd import Site
from ._listeners import refuse
from ._platform import system
from ._process import KILL_SECONDS, WorkerProcess
from ._snapshot import Snapshot
from ._systemd import ServiceManager
from ._worker import STOP_LULL_SECONDS, announce
from .errors import HttpdError

RELOAD_LULL_SECONDS = 2.0
"""So long a kept-alive connection may wait for its next request while its worker is replaced."""

HURRY_SECONDS = 1.0
"""So long after a second signal, a worker is killed: one that computes does not heed it."""

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MOST_SECONDS = 30.0
BACKOFF_RESET_SECONDS = 10.0
"""A worker that has lived so long has not failed at its start."""

STATS_SECONDS = 1.0
"""How often workers are asked for their statistics, unless the service manager wants it oftener."""

log = logging.getLogger("tclchan.supervisor")


@dataclass
class Slot:
    """The place of a worker, which one process takes after the other.

    Attributes:
        number: from 1 on.
        process: who has it; None between two.
        lock: held to fill the place.
        restarts: how often a worker in it has ended unasked.
    """

    number: int
    process: WorkerProcess | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    restarts: int = 0


class Supervisor:
    """Starts workers, starts others when they die or are to be replaced, and ends them."""

    def __init__(
        self,
        args: argparse.Namespace,
        listeners: Sequence[socket.socket],
        manager: ServiceManager,
    ) -> None:
        """Make a supervisor; `run` does the work.

        Args:
            args: the command line; ``args.words`` are its words, for the workers.
            listeners: the sockets that the workers listen with; they stay the caller's.
            manager: who is told how the service is.
        """
        self._args = args
        self._manager = manager
        self._listeners = listeners
        self._slots = [Slot(number) for number in range(1, args.workers + 1)]
        self._endings: dict[WorkerProcess, asyncio.Task[None]] = {}
        """The processes that are to end, and who sees to it."""
        self._metrics = ""
        self._reload = asyncio.Event()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._rotations = 0

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM, and return the exit code.

        Raises:
            HttpdError: a worker cannot start.
        """
        with _monitor.monitoring_if_asked(self._args, self.snapshots) as self._metrics:
            return asyncio.run(self._run())

    def snapshots(self) -> Mapping[int, Snapshot]:
        """What each worker last told of itself. Any thread may ask.

        One that has told nothing yet, or whose place is empty, is left out.
        """
        running = ((slot, slot.process) for slot in self._slots)
        return {
            slot.number: {**process.snapshot, "restarts": slot.restarts}
            for slot, process in running
            if process is not None and process.snapshot
        }

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        system.put_reopening_off(False)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_end_signal)
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()  # It ends by an exception only.
            return 0
        finally:
            work.cancel()
            stop.cancel()
            await asyncio.wait({work, stop})
            self._manager.notify("STOPPING=1")
            await self._end_all()

    def _on_end_signal(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _reopen_logs(self) -> None:
        _logs.reopen()
        self._rotations += 1
        for process in {*self._running(), *self._endings}:
            process.send_signal(signal.SIGUSR1)

    async def _work(self) -> None:
        """Start the first worker, when that serves the others, and keep them at work."""
        first, *others = self._slots
        await self._fill(first)
        await asyncio.gather(*(self._fill(slot) for slot in others))
        assert first.process is not None
        site = Site(**{**first.process.site, "root": Path(first.process.site["root"])})
        count = len(self._slots)
        announce(f"{site}, {count} worker{'s' if count > 1 else ''}", self._metrics)
        self._manager.notify("READY=1", f"STATUS={site}")
        async with asyncio.TaskGroup() as tasks:
            for slot in self._slots:
                tasks.create_task(self._keep(slot))
            tasks.create_task(self._look_after())
            tasks.create_task(self._reload_when_asked())

    async def _fill(self, slot: Slot) -> None:
        """Start a process for *slot*; who had the place keeps it until then.

        Raises:
            HttpdError: it does not start; the message says why.
        """
        rotations = self._rotations
        process = await WorkerProcess.start(slot.number, self._listeners, self._args.words)
        if self._rotations != rotations:
            process.send_signal(signal.SIGUSR1)  # It may have opened what was renamed since.
        log.info("worker %d (process %d) serves", slot.number, process.pid)
        before, slot.process = slot.process, process
        if before is not None:
            self._end(before, RELOAD_LULL_SECONDS)

    async def _keep(self, slot: Slot) -> None:
        """Fill *slot* whenever its process dies: at longer and longer intervals if that is soon."""
        delay = 0.0
        while True:
            if (process := slot.process) is not None:
                reason = await process.wait()
                if slot.process is not process:
                    continue  # It was replaced.
                slot.process = None
                slot.restarts += 1
                lived = time.monotonic() - process.began
                delay = _next_delay(0.0 if lived >= BACKOFF_RESET_SECONDS else delay)
                log.warning(
                    "worker %d (process %d) %s; another one starts in %.1f s",
                    *(slot.number, process.pid, reason, delay),
                )
            await asyncio.sleep(delay)
            async with slot.lock:
                if slot.process is None:
                    try:
                        await self._fill(slot)
                    except HttpdError as error:
                        delay = _next_delay(delay)
                        log.error(
                            "worker %d does not start: %s; again in %.1f s",
                            *(slot.number, error, delay),
                        )

    async def _reload_when_asked(self) -> None:
        """Replace one worker after the other. One that cannot be replaced stays, and the rest."""
        while await self._reload.wait():
            self._reload.clear()
            self._manager.reloading()
            log.info("replacing %d workers", len(self._slots))
            try:
                for slot in self._slots:
                    async with slot.lock:
                        await self._fill(slot)
            except HttpdError as error:
                log.error("no worker is replaced any more, since one does not start: %s", error)
            self._manager.notify("READY=1")

    async def _look_after(self) -> None:
        """Ask the workers how they are, and tell the service manager if all that run answer."""
        watchdog = self._manager.watchdog_seconds
        patience = watchdog / 4
        period = min(STATS_SECONDS, patience / 2) if watchdog else STATS_SECONDS
        while True:
            for process in self._running():
                process.ask()
            await asyncio.sleep(period)
            oldest = min((process.answered for process in self._running()), default=-math.inf)
            if watchdog and time.monotonic() - oldest <= patience:
                self._manager.notify("WATCHDOG=1")

    def _running(self) -> list[WorkerProcess]:
        return [slot.process for slot in self._slots if slot.process is not None]

    def _end(self, process: WorkerProcess, lull: float) -> None:
        """See to it that *process* ends."""

        async def end() -> None:
            reason = await process.end(self._args.grace + KILL_SECONDS)
            del self._endings[process]
            log.info("worker %d (process %d) %s", process.number, process.pid, reason)

        process.drain(self._args.grace, lull)
        if process not in self._endings:
            self._endings[process] = asyncio.create_task(end())

    async def _end_all(self) -> None:
        """Let all workers drain; at once, if another signal comes."""
        for process in {*self._running(), *self._endings}:
            self._end(process, STOP_LULL_SECONDS)
        if not self._manager.sockets:
            refuse(self._listeners)
        hurry = asyncio.create_task(self._hurry.wait())
        while self._endings:
            await asyncio.wait(
                {hurry, *self._endings.values()}, return_when=asyncio.FIRST_COMPLETED
            )
            if self._hurry.is_set():
                processes, tasks = [*self._endings], [*self._endings.values()]
                for process in processes:
                    process.drain(0.0, 0.0)
                await asyncio.gather(*(process.end(HURRY_SECONDS) for process in processes), *tasks)
        hurry.cancel()


def _next_delay(delay: float) -> float:
    return min(max(2 * delay, BACKOFF_FIRST_SECONDS), BACKOFF_MOST_SECONDS)
