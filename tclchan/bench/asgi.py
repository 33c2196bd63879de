"""A page by uvicorn, as a program of its own: ``asgi.py KEEPALIVE``."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"x" * 128
HEADERS = [(b"content-length", b"128"), (b"content-type", b"text/plain")]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer any request."""
    headers = HEADERS if sys.argv[1] == "1" else [*HEADERS, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serve until the process is ended."""
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
        timeout_keep_alive=600,
        backlog=4096,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print("ready", listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
