"""The engines of this build of the driver, and whether each can run here."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from ._ffi import ffi, lib

_MAX_ENGINES = 8


@dataclass(frozen=True)
class EngineInfo:
    """One engine, as it was found by setting it up.

    Attributes:
        name: what ``TCLCHAN_ENGINE`` and ``engine=`` call it.
        usable: whether it can run here.
        reason: why not, in words; empty when it can.
    """

    name: str
    usable: bool
    reason: str

    @property
    def remedy(self) -> str:
        """What to do to make the engine usable; empty when it is, or when nothing is known."""
        return "" if self.usable else _REMEDIES.get(self.name, lambda: "")()


def engines() -> list[EngineInfo]:
    """Try every engine of this build; the best comes first.

    Returns:
        One entry for each engine. The first usable one is what ``engine="auto"`` takes.
    """
    infos = ffi.new("IocpEngineInfo[]", _MAX_ENGINES)
    count = lib.Iocp_GetEngines(infos, _MAX_ENGINES)
    return [
        EngineInfo(
            ffi.string(info.name).decode(), bool(info.usable), ffi.string(info.reason).decode()
        )
        for info in infos[0 : min(count, _MAX_ENGINES)]
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _uring_remedy() -> str:
    """The likely cause, from what the kernel lets everyone read, and what to do about it."""
    disabled = _read("/proc/sys/kernel/io_uring_disabled")
    if disabled not in ("", "0"):
        return (
            f"kernel.io_uring_disabled is {disabled}: as root, run "
            '"sysctl -w kernel.io_uring_disabled=0"'
        )
    release = platform.release()
    major, minor = (int(part) for part in release.split("-")[0].split(".")[:2])
    if (major, minor) < (5, 19):
        return f"kernel {release} is too old: 5.19 or later is needed"
    if "\nSeccomp:\t2" in _read("/proc/self/status"):
        return (
            "a seccomp filter is in force, as in most containers: allow io_uring_setup, "
            "io_uring_enter and io_uring_register in its profile (docker and podman: "
            '"--security-opt seccomp=PROFILE.json"), or use epoll'
        )
    return "use epoll"


_REMEDIES = {"io_uring": _uring_remedy}
