"""The machine: what its figures are to be read with, and what it allows."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

# What a process has open besides connections.
_SPARE_DESCRIPTORS = 600


@dataclass(frozen=True)
class Machine:
    """Where the benchmark runs.

    Attributes:
        cpu: the model of the processor.
        cores: how many of its cores this process may use.
        kernel: the name and release of the kernel.
        server_cpu: the core that the servers are pinned to, or None.
        load_cpu: the core that the load is pinned to, or None.
        descriptors: how many files a process may have open.
    """

    cpu: str
    cores: int
    kernel: str
    server_cpu: int | None
    load_cpu: int | None
    descriptors: int

    @property
    def pinning(self) -> str:
        """Who runs where, in words."""
        if self.cores == 1:
            return "the server and the load share one core: throughput says little"
        if self.server_cpu is None:
            return "nothing is pinned to a core"
        return f"the server is pinned to core {self.server_cpu}, the load to core {self.load_cpu}"

    @property
    def connections(self) -> int:
        """How many connections a process can have."""
        return self.descriptors - _SPARE_DESCRIPTORS


def prepare(connections: int, pin: bool) -> Machine:
    """Pin this process, which is part of the load, and raise its limit of descriptors.

    Args:
        connections: how many of them the workloads would like to have.
        pin: whether to pin anything, if there is more than one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    pin = pin and len(cores) > 1
    if pin:
        os.sched_setaffinity(0, {cores[1]})
    return Machine(
        cpu=_cpu_model(),
        cores=len(cores),
        kernel=f"{platform.system()} {platform.release()}",
        server_cpu=cores[0] if pin else None,
        load_cpu=cores[1] if pin else None,
        descriptors=_raise_descriptor_limit(connections + _SPARE_DESCRIPTORS),
    )


def _raise_descriptor_limit(wanted: int) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Beyond the hard limit it goes with a privilege that even root need not have.
    for limit in (max(wanted, hard), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()
