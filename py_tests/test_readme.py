"""The two programs of the README's first screen run as they stand there."""

from __future__ import annotations

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


def test_tcl(engine: str, tmp_path: Path) -> None:
    script = tmp_path / "server.tcl"
    script.write_text(program("tcl"))
    environment = {
        "TCLCHAN_ENGINE": engine,
        "TCLLIBPATH": f"{{{tclchan.library_dir().as_posix()}}}",
    }
    tclsh = tclsh_of("8.6")
    assert tclsh is not None
    with subprocess.Popen(
        [tclsh.path, str(script)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.fullmatch(rf"listening at .* (\d+) on {engine}\n", line)
            assert found, line
            with socket.create_connection(("127.0.0.1", int(found[1])), DEADLINE) as sock:
                sock.sendall(b"one\ntwo\n")
                sock.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: sock.recv(100), b""))
                # As with socket, lines go out with the ends that protocols have.
                assert received == b"one\r\ntwo\r\n"
        finally:
            process.terminate()


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
