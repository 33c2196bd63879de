"""What there is to tell of a process that serves a site, at one moment."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ._stats import stats

Snapshot = Mapping[str, Any]
"""``pid``; ``uptime`` in seconds; ``server`` and ``engine``, their names; ``connections``, the
sockets open besides those that listen; ``counters``, the fields of `Stats`; and ``restarts``, how
many processes before this one have had its number and ended unasked."""

Snapshots = Callable[[], Mapping[int, Snapshot]]
"""Tells of each worker by its number, from 1 on. It is called from threads of its own."""


def of_this_process(server: str, engine: str) -> Snapshots:
    """What a process tells that serves a site alone: it is worker 1.

    Args:
        server: the name of the web server.
        engine: the name of the engine under it.
    """
    began = time.monotonic()

    def snapshots() -> dict[int, Snapshot]:
        counters = dataclasses.asdict(stats())
        return {
            1: {
                "pid": os.getpid(),
                "uptime": round(time.monotonic() - began, 3),
                "server": server,
                "engine": engine,
                "connections": max(0, counters["sockets_open"] - 1),
                "counters": counters,
                "restarts": 0,
            }
        }

    return snapshots
