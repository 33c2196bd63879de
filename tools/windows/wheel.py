#!/usr/bin/env python3
"""Build the wheel for Windows, and print its path.

    tools/windows/wheel.py [MESON OPTION...]     as "-Dtesting=true"; it lies in build/windows/dist

The backend is that of every other build of the package. It is told to name the wheel for Windows,
and meson to compile for it with what tools/windows/environment.py has made.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import mesonpy

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "windows"


def main() -> None:
    """Build it in the Python that has the tools of the build."""
    os.chdir(ROOT)
    # What sysconfig says of the system, and with it the wheel's tag.
    os.environ["_PYTHON_HOST_PLATFORM"] = "win-amd64"
    # Meson would find the Tcl of this system there.
    os.environ.pop("PKG_CONFIG_PATH", None)
    options = ["--cross-file", str(BUILD / "cross.ini"), *sys.argv[1:]]
    settings = {"build-dir": str(BUILD / "package"), "setup-args": options}
    dist = BUILD / "dist"
    dist.mkdir(exist_ok=True)
    for old in dist.glob("*.whl"):
        old.unlink()
    # What meson, ninja and the backend have to say is of interest if they fail.
    outputs = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            name = mesonpy.build_wheel(str(dist), settings)
        except BaseException:
            os.lseek(log.fileno(), 0, os.SEEK_SET)
            os.write(outputs[1], log.read())
            raise
        finally:
            os.dup2(outputs[0], 1)
            os.dup2(outputs[1], 2)
    print(dist / name)


if __name__ == "__main__":
    main()
