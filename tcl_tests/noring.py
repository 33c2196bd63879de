"""Run a command as in a container that forbids io_uring: ``noring.py ?OPTION? COMMAND ARGS...``.

A seccomp filter makes io_uring_setup fail with EPERM, which is what the default policies of the
common container engines do. Of those that are older than Linux 5.11, ``--old`` forbids epoll_pwait2
too. With ``--full`` there is no room to have epoll watch descriptor 77, as where the user may not
have more of them watched.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
IO_URING_SETUP = 425  # the same on every architecture
EPERM = 1

EPOLL_PWAIT2 = 441
EPOLL_CTL = {"x86_64": 233}.get(platform.machine(), 21)
EPOLL_CTL_ADD = 1
ENOSPC = 28
FULL_FD = 77

# Classic BPF: load a word of the call, skip unless it is equal, leave.
LOAD, EQUAL, LEAVE = 0x20, 0x15, 0x06
FAIL, ALLOW = 0x00050000, 0x7FFF0000
NUMBER, OPERATION, FD = 0, 24, 32  # Offsets of the call's number and of epoll_ctl's arguments.


def program(option: str) -> bytes:
    """Return the filter; *option* is empty or one of the command line's."""
    code = [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 1, IO_URING_SETUP), (LEAVE, 0, 0, FAIL | EPERM)]
    if option == "--old":
        code += [(EQUAL, 0, 1, EPOLL_PWAIT2), (LEAVE, 0, 0, FAIL | EPERM)]
    elif option == "--full":
        code += [
            (EQUAL, 0, 5, EPOLL_CTL),
            (LOAD, 0, 0, OPERATION),
            (EQUAL, 0, 3, EPOLL_CTL_ADD),
            (LOAD, 0, 0, FD),
            (EQUAL, 0, 1, FULL_FD),
            (LEAVE, 0, 0, FAIL | ENOSPC),
        ]
    code.append((LEAVE, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class Filter(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


def forbid(option: str) -> None:
    """Forbid io_uring in this process and all that it becomes or starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(option)
    filter_ = Filter(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl(PR_SET_SECCOMP) on {platform.machine()}")


if __name__ == "__main__":
    words = sys.argv[1:]
    forbid(words.pop(0) if words[0].startswith("--") else "")
    os.execvp(words[0], words)
