"""Giving up root's rights once the port is open."""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress

from .errors import HttpdError

_NO_ID = 2**32 - 1
"""What tells the system to leave an id as it is."""


def drop_privileges(user: str | None, group: str | None) -> None:
    """Become *user* and *group* for good, with the supplementary groups of the former.

    Args:
        user: the name or the number of a user; None stays the same.
        group: the name or the number of a group; None takes that of *user*.

    Raises:
        HttpdError: there is no such user or group, or this process may not become that.
    """
    if user is None and group is None:
        return
    account = _account(user) if user is not None else None
    gid = _gid(group) if group is not None else account.pw_gid if account else os.getgid()
    uid = account.pw_uid if account else os.getuid()
    if (uid, uid, gid, gid) == (os.getuid(), os.geteuid(), os.getgid(), os.getegid()):
        return
    try:
        if account is not None:
            os.initgroups(account.pw_name, gid)
        else:
            os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        what = f'user "{user}"' if user is not None else f'group "{group}"'
        reason = "only root can" if isinstance(error, PermissionError) else error.strerror
        raise HttpdError(f"cannot become {what}: {reason}") from error


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise HttpdError(f'unknown user "{user}"') from None


def _gid(group: str) -> int:
    with suppress(KeyError):
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        if gid < _NO_ID:
            return gid
    raise HttpdError(f'unknown group "{group}"')
