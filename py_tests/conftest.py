"""Fixtures of all tests.

A test that asks for `engine` runs once for each engine that this machine has, each time in a thread
of its own, since all interpreters of a thread share an engine. An engine that cannot be used is a
skip with the reason, and a failure if TCLCHAN_REQUIRE_ENGINES (names, separated by commas) has it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tclchan
from tclchan import _build_config

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = set(filter(None, os.environ.get("TCLCHAN_REQUIRE_ENGINES", "").split(",")))

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_report_header() -> list[str]:
    build = {k: v for k, v in vars(_build_config).items() if k.isupper()}
    found = [f"{e.name} {'usable' if e.usable else 'not usable: ' + e.reason}" for e in ENGINES]
    return [f"tclchan: {build}", f"engines: {'; '.join(found)}"]


ENGINES = tclchan.engines()
if missing := REQUIRED - {e.name for e in ENGINES}:
    raise pytest.UsageError(f"TCLCHAN_REQUIRE_ENGINES: no such engine: {', '.join(missing)}")


@pytest.fixture(params=ENGINES, ids=lambda info: info.name)
def engine(request: pytest.FixtureRequest) -> str:
    info: tclchan.EngineInfo = request.param
    if not info.usable:
        if info.name in REQUIRED:
            pytest.fail(f"{info.name} is required: {info.reason}")
        pytest.skip(f"{info.name}: {info.reason}")
    return info.name


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if "engine" not in pyfuncitem.fixturenames:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    in_thread(lambda: pyfuncitem.obj(**arguments))
    return True


def in_thread(body: Callable[[], Any]) -> Any:
    """Call *body* in a new thread; return or raise what it does.

    tkinter's interpreters must be freed on their own thread: what a cycle of references holds is
    freed there, and what a traceback holds is never freed.
    """
    outcome: list[Any] = [None, None]

    def target() -> None:
        try:
            outcome[0] = body()
        except BaseException as error:
            outcome[1] = error
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(error))
        gc.collect()

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@pytest.fixture
def interp() -> Iterator[tclchan.Interp]:
    with tclchan.Interp() as interp:
        yield interp


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Run Python code, or with ``-m`` a module, in a process of its own outside the sources."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *(args if args[0].startswith("-") else ("-c", *args))],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def cli(run_python: Run) -> Run:
    """Run the command ``tclchan``."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_python("-m", "tclchan", *args, **options)

    return run
