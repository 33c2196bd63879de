"""``make serve``: how it ends; ``make bench``. That they build is what ``make test`` has shown."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from httpclient import Child

# The package that these tests use is not built anew under them.
MAKE = ["make", "-C", str(ROOT), "-s", "-o", "build/serve.stamp", "-o", "build/package.stamp"]


@contextmanager
def make_serve(
    engine: str, cwd: Path, *prefix: str, stdin: int = subprocess.DEVNULL
) -> Iterator[Child]:
    """``make serve`` on a free port, for a block that ends it."""
    command = [*prefix, *MAKE, "serve", "PORT=0", "TCLHTTPD="]
    child = Child(command, engine, cwd, stdin=stdin, MAKEFLAGS="", MAKELEVEL="")
    try:
        line = child.line()
        assert line.startswith(f"serving {ROOT}/examples/site at http://127.0.0.1:")
        assert line.endswith(f" on {engine})")
        yield child
        assert child.process.wait(5) == 0, child.stderr()
        assert child.stderr() == ""
    finally:
        child.end(signal.SIGKILL)
    assert child.rest() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_make(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path) as make:
        os.kill(make.pid, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_server(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path) as make:
        (server,) = Path(f"/proc/{make.pid}/task/{make.pid}/children").read_text().split()
        os.kill(int(server), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_both(engine: str, tmp_path: Path, number: int) -> None:
    with make_serve(engine, tmp_path, "setsid") as make:
        os.killpg(make.pid, number)


def test_ctrl_c(engine: str, tmp_path: Path) -> None:
    terminal, stdin = os.openpty()
    try:
        with make_serve(engine, tmp_path, "setsid", "--ctty", stdin=stdin):
            os.write(terminal, b"\x03")
    finally:
        os.close(terminal)
        os.close(stdin)


def test_what_cannot_be_served_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [*MAKE, "serve", "ROOT=/nowhere"],
        env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert 'root "/nowhere" does not exist' in done.stderr


def test_bench_takes_arguments() -> None:
    done = subprocess.run(
        [*MAKE, "-o", "build/bench.stamp", "bench", "ARGS=--list"],
        env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("keepalive-1 ")
