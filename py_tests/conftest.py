"""Fixtures of all tests.

A test that asks for `engine`, or for an `interp` on it, runs once for each engine that this machine
has. All interpreters of a thread share an engine, until the last of them is gone: a test leaves
none behind. An engine that cannot be used is a skip with the reason, and a failure if
TCLCHAN_REQUIRE_ENGINES (names, separated by commas) has it.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    info: tclchan.EngineInfo = request.param
    if not info.usable:
        if info.name in REQUIRED:
            pytest.fail(f"{info.name} is required: {info.reason}")
        pytest.skip(f"{info.name}: {info.reason}")
    yield info.name
    # What a cycle of references holds would keep the engine for the next test in this thread.
    gc.collect()


@pytest.fixture
def interp(engine: str) -> Iterator[tclchan.Interp]:
    with tclchan.Interp(engine=engine) as interp:
        yield interp


def in_thread(body: Callable[[], Any]) -> Any:
    """Call *body* in a new thread; return or raise what it does."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(body).result()


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
