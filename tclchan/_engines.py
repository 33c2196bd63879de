"""The engines of this build of the driver, and whether each can run here."""

from __future__ import annotations

import errno
import os
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
        return "" if self.usable else _REMEDIES.get(self.name, _common_remedy)(self.reason)


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


def _says(reason: str, number: int) -> bool:
    """Whether the reason has the system's words for this error in it."""
    return os.strerror(number).lower() in reason.lower()


def _common_remedy(reason: str) -> str:
    """What to do about what any engine may be short of."""
    # Its words begin with those of the next.
    if _says(reason, errno.ENFILE):
        return 'the system has no descriptors left: as root, raise "sysctl fs.file-max"'
    if _says(reason, errno.EMFILE):
        return (
            "this process has all the descriptors that it may have: raise the limit with "
            '"ulimit -n", or see what it leaves open'
        )
    return ""


def _uring_remedy(reason: str) -> str:
    """What to do about *reason*, also from what the kernel lets everyone read."""
    if common := _common_remedy(reason):
        return common
    if _says(reason, errno.ENOMEM):
        return (
            'its memory counts as locked: raise RLIMIT_MEMLOCK with "ulimit -l", as root or in '
            "/etc/security/limits.conf, or use epoll"
        )
    release = platform.release()
    major, minor = (int(part) for part in release.split("-")[0].split(".")[:2])
    if (major, minor) < (5, 19):
        return f"kernel {release} is too old: 5.19 or later is needed; or use epoll"
    if _says(reason, errno.ENOSYS):
        return f"kernel {release} was built without CONFIG_IO_URING: use another, or epoll"
    disabled = _read("/proc/sys/kernel/io_uring_disabled")
    if disabled not in ("", "0"):
        return (
            f"kernel.io_uring_disabled is {disabled}: as root, run "
            '"sysctl -w kernel.io_uring_disabled=0"'
        )
    if "\nSeccomp:\t2" in _read("/proc/self/status"):
        return (
            "a seccomp filter is in force, as in most containers: allow io_uring_setup, "
            "io_uring_enter and io_uring_register in its profile (docker and podman: "
            '"--security-opt seccomp=PROFILE.json"), or use epoll'
        )
    return "use epoll"


def _epoll_remedy(reason: str) -> str:
    if _says(reason, errno.ENOMEM):
        return "the kernel has no memory left for it: see what else takes it"
    if _says(reason, errno.EPERM):
        return "a seccomp filter forbids epoll_create1: allow it in its profile"
    return _common_remedy(reason)


_REMEDIES = {"io_uring": _uring_remedy, "epoll": _epoll_remedy}
