"""What ends a measurement early."""

from __future__ import annotations

import signal

from ..errors import TclchanError


class BenchError(TclchanError):
    """The benchmark cannot be run as it was asked for."""


class Failure(TclchanError):
    """One measurement has failed: a wrong reply, or none. The others go on."""


class Died(Failure):
    """A process ended in the middle of a measurement.

    Attributes:
        aborted (bool): whether it ended by ``abort``, as Tcl does when it panics.
    """

    def __init__(self, name: str, code: int, errors: str) -> None:
        """Make the error for a program, its return *code* and what it wrote to stderr."""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        last = errors.strip().splitlines()[-1:]
        super().__init__(": ".join([f"{name} ended {how}", *last]))
        self.aborted = code == -signal.SIGABRT


class LeftOut(TclchanError):
    """A workload cannot be run on a contender, for a reason that is no failure."""
