"""The Tcl tests, with a driver built with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess

import pytest
from conftest import ENGINES, ROOT


@pytest.mark.timeout(2400)
def test_sanitizers_find_nothing() -> None:
    done = subprocess.run([ROOT / "tools/sanitize.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    usable = [info.name for info in ENGINES if info.usable] + ["sim"]
    tcl9 = " and sim with Tcl 9.0" if (ROOT / "build/tcl9").exists() else ""
    assert done.stdout.endswith(f"sanitizers: nothing found on {' '.join(usable)}{tcl9}\n")
