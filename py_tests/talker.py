"""A child process that the tests talk to, a line at a time."""

from __future__ import annotations

import os
import subprocess
import threading


class Talker:
    """A process that answers each line with a line."""

    def __init__(
        self, command: list[str], environment: dict[str, str], seconds: float = 90.0
    ) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        # A process that hangs must not hang the tests.
        self.watchdog = threading.Timer(seconds, self.process.kill)
        self.watchdog.start()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(10)}"
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> int:
        self.watchdog.cancel()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
