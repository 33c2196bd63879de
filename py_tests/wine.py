"""Programs of Windows, run under Wine with what tools/windows/environment.py has made."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from conftest import ROOT, lacking
from httpclient import SITE, Child, Server
from tclfiles import TCL_TESTS, run_session

RUN = str(ROOT / "tools/windows/run")
BUILD = ROOT / "build/windows"
# What a program takes to start on a machine that has other things to do: much, with Wine.
START_S = 120.0
PYTHON = BUILD / "python/python.exe"
PYTHON_COMMAND = (RUN, "python", "-P")
TCLSH = {
    "tclsh": BUILD / "tcl/bin/tclsh86.exe",
    "tclsh9.0": BUILD / "tcl9/bin/tclsh90.exe",
}


def windows_path(path: Path) -> str:
    """Return the name that a file of this system has for a program of Windows."""
    return f"Z:{path}"


def wine(
    *command: str | Path, timeout: float = START_S, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, as tools/windows/run does, and return all that it says on either output."""
    environ = {**os.environ, **environment}
    return run_session([RUN, *map(str, command)], timeout, cwd=cwd, env=environ)


@cache
def wheel() -> Path:
    """Build the wheel for Windows, and return it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/windows/wheel.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@cache
def installed() -> Path:
    """Install the wheel in Windows' Python, and return the directory of the package."""
    pip = ("python", "-m", "pip", "--disable-pip-version-check", "install", "--no-index")
    done = wine(*pip, "--no-deps", "--force-reinstall", windows_path(wheel()), timeout=300)
    assert done.returncode == 0, done.stdout
    assert "Successfully installed tclchan-" in done.stdout
    return BUILD / "python/Lib/site-packages/tclchan"


class WindowsChild(Child):
    """A program of Windows; nobody asks it to end."""

    def line(self, seconds: float = START_S) -> str:
        return super().line(seconds).rstrip("\r")


class WindowsServer(WindowsChild, Server):
    """``tclchan httpd`` under Wine, with the tcllib of this system."""

    python = PYTHON_COMMAND

    def __init__(self, cwd: Path, *options: str, root: Path = SITE) -> None:
        os.environ["TCLLIBPATH"] = tcllib()
        super().__init__("iocp", "tcllib", cwd, *options, root=root)

    def holdings(self) -> tuple[int, int, int]:
        """What Tcl knows of them: a process of Wine has other descriptors than the program."""
        stats = self.stats()
        return 0, stats["channels"], stats["connections"]


@cache
def tcllib() -> str:
    """Return the directory of the packages in Tcl that this system has."""
    script = "package require httpd; puts [package ifneeded httpd [package present httpd]]"
    done = subprocess.run(["tclsh"], input=script, capture_output=True, text=True, check=True)
    return str(Path(done.stdout.split()[-1]).parent.parent)


@cache
def testing_driver() -> Path:
    """Build the driver with the commands that only tests use, and return its directory."""
    build = BUILD / "testing"
    cross = str(BUILD / "cross.ini")
    # Not the Tcl of this system, which make lets pkg-config find.
    environment = {name: os.environ[name] for name in os.environ if name != "PKG_CONFIG_PATH"}
    for command in (
        ["meson", "setup", "--reconfigure", "--cross-file", cross, "-Dtesting=true", str(build)],
        ["ninja", "-C", str(build), "native/iocpsock.dll"],
    ):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "native"


def tcl_file(
    name: str, program: str, engine: str, driver: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a file of tcl_tests in a native tclsh, or in Windows' Python."""
    tclsh = TCLSH.get(program, TCLSH["tclsh"])
    if not tclsh.exists():
        lacking(f"there is no {program} for Windows: its sources could not be fetched")
    command = ["python", "-P", "-m", "tclchan", "run"] if program == "python" else [program]
    with tempfile.TemporaryDirectory(prefix="tclchan-windows-") as directory:
        return wine(
            *command,
            windows_path(TCL_TESTS / name),
            "-tmpdir",
            windows_path(Path(directory)),
            timeout=timeout,
            TCLCHAN_ENGINE=engine,
            TCLCHAN_LIBDIR=windows_path(driver),
            TCLLIBPATH=windows_path(BUILD / "thread"),
            TCLCHAN_PYTHON=windows_path(PYTHON),
            TCLCHAN_TCLSH=windows_path(tclsh),
        )


def begin() -> None:
    """Start Windows, which then runs until its end: where Wine is not set up, no test.

    Its services write to the standard error of the program that was the first one. That must not
    be one whose output a test looks at: now and then the service for devices of Wine 8 fails.
    """
    if not (BUILD / "prefix").is_dir():
        lacking("there is no Windows: tools/windows/environment.py could not make it")
    end()
    assert wineserver("--persistent") == 0
    nothing = subprocess.DEVNULL
    subprocess.run([RUN, "cmd", "/c", "exit"], stdin=nothing, stdout=nothing, stderr=nothing)


def end() -> None:
    """End Windows, and all of its programs that still run."""
    wineserver("--kill")


def wineserver(option: str) -> int:
    environment = {**os.environ, "WINEPREFIX": str(BUILD / "prefix")}
    return subprocess.run(["wineserver", option], env=environment, check=False).returncode
