"""What is installed, and what it is linked to."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

import tclchan
from tclchan import _build_config

DIR = tclchan.library_dir()
# For each major version of Tcl that the package was built for.
NAMES = {"8": "libiocpsock.so", "9": "libtcl9iocpsock.so"}
LIBRARIES = [DIR / NAMES[tcl[0]] for tcl in _build_config.TCL.split(", ")]
each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)


def readelf(*args: str) -> str:
    return subprocess.run(["readelf", *args], capture_output=True, text=True, check=True).stdout


def needed(file: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", readelf("-dW", str(file))))


def test_the_tests_are_about_what_is_installed() -> None:
    assert not DIR.is_relative_to(ROOT / "tclchan")


def test_every_file_of_the_package_is_installed() -> None:
    sources = {
        path.relative_to(ROOT / "tclchan")
        for path in (ROOT / "tclchan").rglob("*")
        if path.is_file()
        and path.name != "meson.build"
        and path.suffix not in (".pyc", ".in", ".md")
    }
    built = {
        Path(name)
        for name in (
            "_build_config.py",
            "bench/floor",
            "bench/load",
            "include/iocpsock.h",
            "libiocpsockstub.a",
            "pkgIndex.tcl",
        )
    }
    built |= {Path(library.name) for library in LIBRARIES}
    installed = {
        Path(*file.parts[1:])
        for file in importlib.metadata.files("tclchan") or ()
        if file.parts[0] == "tclchan" and file.suffix != ".pyc"
    }
    assert {path for path in installed if not path.name.startswith("_ffi.")} == {
        path for path in sources | built if not path.name.startswith("_ffi.")
    }
    assert {path.name for path in installed if path.name.startswith("_ffi.")} == {
        "_ffi.abi3.so",
        "_ffi.pyi",
    }
    assert Path("py.typed") in installed


def test_one_version() -> None:
    assert importlib.metadata.version("tclchan") == tclchan.__version__
    project = (ROOT / "meson.build").read_text()
    assert re.findall(r"\n  version: '(.*?)'", project) == [tclchan.__version__]
    for file in ("pyproject.toml", "tclchan/__init__.py"):
        assert tclchan.__version__ not in (ROOT / file).read_text()


@each_library
def test_the_driver_is_linked_to_no_tcl_and_no_python(library: Path) -> None:
    assert needed(library) <= {"ld-linux-x86-64", "libc", "liburing"}


def test_the_binding_shares_the_driver() -> None:
    binding = DIR / "_ffi.abi3.so"
    assert needed(binding) == {"libiocpsock", "libc"}
    assert re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", readelf("-dW", str(binding))) == [
        "$ORIGIN"
    ]


@each_library
def test_the_driver_exports_its_interface_and_nothing_else(library: Path) -> None:
    table = readelf("--dyn-syms", "-W", str(library))
    exported = {
        line.split()[7].split("@")[0]
        for line in table.splitlines()
        if re.search(r" (GLOBAL|WEAK) +DEFAULT +\d+ ", line)
    }
    header = (ROOT / "native/iocpsock.h").read_text()
    declared = set(re.findall(r"^IOCP_EXPORT [^;(]*?(\w+)\(", header, re.MULTILINE))
    assert exported == declared
    assert {"Iocpsock_Init", "Iocpsock_SafeInit"} < exported
    assert all(re.match(r"Iocpsock_(Safe)?Init$|Iocp_[A-Z]", name) for name in exported)
