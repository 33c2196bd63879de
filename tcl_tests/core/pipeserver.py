"""The HTTP server that httpPipeline.test asks for: ``pipeserver.py PORT COMMAND ARGS...``.

It serves while the command runs, and ends with it and as it does. As section 4 of the file wants
it: persistent connections, which it closes after a second without a request; pages of both
transfer encodings; ``delay=SECONDS`` before an answer and ``close=y`` after it, in the query of a
GET or HEAD or in the body of a POST. After ``close=y`` it closes as web servers do, the sending
side first, so that requests on their way to it are no reason for the kernel to answer with a reset.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

IDLE_S = 1.0
LINGER_S = 5.0
PAGES = {
    "privacy": (False, b"What is read here stays here.\n" * 300),
    "conditions": (True, b"There are no conditions but these.\n" * 400),
    "welcome": (False, b"Welcome.\n" * 100),
}
CHUNK = 4096


def answer(page: str, bare: bool, close: bool) -> bytes:
    """Return an answer: its head, and unless *bare* its body."""
    chunked, body = PAGES[page]
    head = ["HTTP/1.1 200 OK", "Content-Type: text/plain; charset=utf-8"]
    head += ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"]
    head += ["Connection: close" if close else "Connection: keep-alive", "", ""]
    if chunked:
        parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    return "\r\n".join(head).encode() + (b"" if bare else body)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection, one after the other."""
    close = False
    try:
        while not close:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
            request, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = request.split()
            headers = {
                name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            query = parse_qs(urlsplit(target).query)
            said = parse_qs(body.decode()) if method == "POST" else query
            await asyncio.sleep(float(said.get("delay", ["0"])[0]))
            close = said.get("close") == ["y"] or headers.get("connection", "").lower() == "close"
            writer.write(answer(query["page"][0], method == "HEAD", close))
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            while await reader.read(CHUNK):
                pass
    except (asyncio.IncompleteReadError, TimeoutError, OSError):
        pass  # Nobody asks for more.
    finally:
        writer.close()


async def main(port: int, command: list[str]) -> int:
    """Serve while the command runs; return its exit code."""
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        process = await asyncio.create_subprocess_exec(*command)
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2:])))
