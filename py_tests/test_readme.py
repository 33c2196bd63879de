"""The programs of the README's first screen, and of the site's, run as they stand there."""

from __future__ import annotations

import html
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import tclsh_of
from httpclient import DEADLINE, Child

import tclchan

ROOT = Path(__file__).resolve().parent.parent


def program(language: str) -> str:
    """Return the first program in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found
    return found[1]


def shown(caption: str) -> str:
    """Return the program that the site's first page shows under a caption."""
    page = (ROOT / "examples/site/index.html").read_text()
    found = re.search(rf"<figcaption>{caption}</figcaption>\s*<pre>(.*?)</pre>", page, re.S)
    assert found
    return html.unescape(re.sub(r"<.*?>", "", found[1]))


def listens(pattern: str, command: list[str], engine: str, received: bytes) -> None:
    """See an echo server say where it listens, and echo."""
    environment = {
        "TCLCHAN_ENGINE": engine,
        "TCLLIBPATH": f"{{{tclchan.library_dir().as_posix()}}}",
    }
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.fullmatch(pattern, line)
            assert found, line
            with socket.create_connection(("127.0.0.1", int(found[1])), DEADLINE) as sock:
                sock.sendall(b"one\ntwo\n")
                sock.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: sock.recv(100), b"")) == received
        finally:
            process.terminate()


def in_tclsh(text: str, directory: Path) -> list[str]:
    tclsh = tclsh_of("8.6")
    assert tclsh is not None
    script = directory / "server.tcl"
    script.write_text(text)
    return [tclsh.path, str(script)]


def test_tcl(engine: str, tmp_path: Path) -> None:
    command = in_tclsh(program("tcl"), tmp_path)
    # As with socket, lines go out with the ends that protocols have.
    listens(rf"listening at .* (\d+) on {engine}\n", command, engine, b"one\r\ntwo\r\n")


def test_the_sites(engine: str, tmp_path: Path) -> None:
    listen = "socket2 -server accept -myaddr 127.0.0.1 7000"
    say = "puts [fconfigure [socket2 -server accept -myaddr 127.0.0.1 0] -sockname]; flush stdout"
    texts = {name: shown(f"In {name}").replace(listen, say) for name in ("Tcl", "Python")}
    assert all(say in text for text in texts.values())
    for command in (
        in_tclsh(texts["Tcl"], tmp_path),
        [sys.executable, "-P", "-c", texts["Python"]],
    ):
        listens(r"127\.0\.0\.1 .* (\d+)\n", command, engine, b"one\ntwo\n")


@pytest.mark.posix("nothing ends such a process well")
def test_python(engine: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = program("python")
    assert "port=8015" in text
    command = [sys.executable, "-P", "-u", "-c", text.replace("port=8015", "port=0")]
    child = Child(command, engine, tmp_path)
    try:
        with urllib.request.urlopen(child.line(), timeout=DEADLINE) as answer:
            assert answer.status == 200
            assert answer.read() == (ROOT / "examples/site/index.html").read_bytes()
    finally:
        code = child.end(signal.SIGINT)
    assert (code, child.stderr()) == (0, "")
