"""One side of a measurement: a server in a process of its own, and what it uses."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import Died, Failure

_START_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


class Process:
    """A child process.

    Attributes:
        name: the name of the program.
        process: what to wait for.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Take over *process*, whose standard error goes to the file *errors*."""
        self.name = name
        self.process = process
        self._errors = errors
        self._unread = b""

    def line(self, seconds: float) -> str:
        """The next line of its standard output.

        Raises:
            Died, Failure: the process ended, or says nothing for so many seconds.
        """
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise Failure(f"a process says nothing for {seconds:.0f} s")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise Died(self.name, self.process.wait(), self.errors())
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # Why it ended is told where it is read from.
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def errors(self) -> str:
        """What it wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def check(self) -> None:
        """Raise `Died` if the process has ended."""
        if (code := self.process.poll()) is not None:
            raise Died(self.name, code, self.errors())


class Server(Process):
    """A server that listens.

    Attributes:
        ports: the ports of its listeners.
    """

    ports: Sequence[int] = ()

    def cpu_ns(self) -> int:
        """The CPU time, user and system, that the process has used with all of its threads.

        It is read from the process's own clock, which counts nanoseconds and keeps ended threads.
        The number of that is what clock_getcpuclockid(3) makes of a process's number; Python has
        no function for it.
        """
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def private_bytes(self) -> int:
        """The memory of the process that is in no file."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s*(\d+) kB", status)
        return 1024 * int(found[1]) if found else 0

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def running(
    command: Sequence[str], core: int | None, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a child process for the length of a block, on a core of its own if there is one."""
    with _child(command, core, environment) as (process, errors):
        yield Process(Path(command[0]).name, process, errors)


@contextmanager
def serving(
    command: Sequence[str],
    core: int | None,
    environment: Mapping[str, str] | None = None,
    engine: str = "",
) -> Iterator[Server]:
    """Run a server for the length of a block.

    It writes ``ready PORT... ENGINE``, the name of the engine only if it has one.
    """
    with _child(command, core, environment) as (process, errors):
        server = Server(Path(command[0]).name, process, errors)
        words = server.line(_START_SECONDS).split()
        server.ports = [int(word) for word in words[1:] if word.isdigit()]
        if words[:1] != ["ready"] or "".join(words[len(server.ports) + 1 :]) != engine:
            raise Failure(f'the server said "{" ".join(words)}" in place of being ready')
        with _blaming(server):
            yield server


@contextmanager
def listening_at(
    command: Sequence[str], core: int | None, port: int, is_up: Callable[[int], bool]
) -> Iterator[Server]:
    """Run a server that says nothing for the length of a block; it listens once *is_up* is true."""
    with _child(command, core, None) as (process, errors):
        server = Server(Path(command[0]).name, process, errors)
        server.ports = [port]
        deadline = time.monotonic() + _START_SECONDS
        while not is_up(port):
            server.check()
            if time.monotonic() > deadline:
                raise Failure(f"{command[0]} does not listen within {_START_SECONDS:.0f} s")
            time.sleep(0.02)
        with _blaming(server):
            yield server


@contextmanager
def _blaming(server: Server) -> Iterator[None]:
    """Let what fails be the end of the server, if it has ended."""
    try:
        yield
    except (Failure, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        server.check()
        raise


@contextmanager
def _child(
    command: Sequence[str], core: int | None, environment: Mapping[str, str] | None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    parent = os.getpid()

    def in_child() -> None:
        # However this process ends, nothing it started is left behind.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        # A Tcl that panics is a result here.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if core is not None:
            os.sched_setaffinity(0, {core})

    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            preexec_fn=in_child,
            # Ctrl-C is for this process, which ends the others.
            start_new_session=True,
        )
        try:
            yield process, errors
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
