#!/usr/bin/env python3
"""Get Debian packages that the tests need and the machine need not have installed.

    tools/fetch.py NAME...     prints a directory for each

    tcl8.6-source    the sources of the Tcl 8.6 that is installed, for the tests in them
    tcl9.0           Tcl 9.0, its headers, Thread and tls; bin/tclsh9.0 runs where it lies, and
                     the files in pkgconfig are about that place
    tcl9.0-source    its sources, or those of a later 9.0 where these are gone
    prometheus       usr/bin/prometheus and usr/bin/promtool of this machine's release; installed,
                     its package would start a service for the whole network

They lie in TCLCHAN_CACHE, or in tclchan below XDG_CACHE_HOME or ~/.cache. What is there is not
fetched again, and a directory that is there is complete. Nothing of the system is changed: apt is
given lists of its own, made from the machine's own sources, and checks their signatures as always.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

APT = Path("/etc/apt")
OWN_RELEASE = "{codename} {codename}-updates {codename}-security"
# A stanza of apt's sources: its fields by their names in lower case.
Stanza = dict[str, str]

# Tcl 9 runs with its own loader and C library, since this machine's may be too old for it. The
# programs that it starts get none of that: their environment has no LD_LIBRARY_PATH.
TCLSH = """\
#!/bin/sh
root={root}
TCL_LIBRARY=${{TCL_LIBRARY:-$root/usr/lib/tcl9.0}}
TCLLIBPATH="{{$root/usr/lib/tcltk/{triplet}}} $TCLLIBPATH"
TCL9_0_TM_PATH=$root/usr/lib/tcl9.0/tcl9
export TCL_LIBRARY TCLLIBPATH TCL9_0_TM_PATH
lib=$root/usr/lib/{triplet}
exec "$lib/{loader}" --argv0 "$0" --library-path "$lib" "$root/usr/bin/tclsh9.0" "$@"
"""

# Its description for compilers names where it lies, and for static linking it asks for other
# libraries, which are not there.
PKG_CONFIG = ((r"^(\w+)=/usr", r"\1={root}/usr"), (r"^Requires\.private:.*\n", ""))


class FetchError(Exception):
    """What cannot be had and why, in one line."""


@dataclass(frozen=True)
class Recipe:
    """What to fetch, and what to make of it."""

    packages: tuple[str, ...]
    # The suites to try, one after the other: apt's field Suites, made from the machine's codename.
    suites: tuple[str, ...]
    # (directory with the packages, where to unpack, where that will be in the end)
    unpack: Callable[[Path, Path, Path], None]

    @property
    def source(self) -> bool:
        """Whether it is a source package."""
        return self.unpack is unpack_source

    @property
    def digest(self) -> str:
        """A word that changes with the recipe, so that an old result is not taken for a new one."""
        content = repr((self.packages, self.suites, self.source or (TCLSH, PKG_CONFIG)))
        return hashlib.sha256(content.encode()).hexdigest()[:8]


def recipe(name: str) -> Recipe:
    """Return the recipe for *name*."""
    if name == "tcl8.6-source":
        version = output("dpkg-query", "-W", "-f", "${source:Version}", "libtcl8.6")
        package = f"tcl8.6={version}" if version else "tcl8.6"
        return Recipe((package,), (OWN_RELEASE,), unpack_source)
    if name == "prometheus":
        return Recipe(("prometheus",), (OWN_RELEASE,), unpack_programs)
    if name == "tcl9.0-source":
        return Recipe(("tcl9.0",), ("trixie", "testing"), unpack_source)
    tcl = "tcl9.0 libtcl9.0 tcl9.0-dev tcl9.0-thread tcl-tls"
    libraries = "libtommath1 libssl3t64 libzstd1 zlib1g libc6"
    return Recipe((*tcl.split(), *libraries.split()), ("trixie",), unpack_tcl9)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["tcl8.6-source", "tcl9.0", "tcl9.0-source", "prometheus"]
    parser.add_argument("names", metavar="NAME", nargs="+", choices=names)
    try:
        for name in parser.parse_args().names:
            print(fetch(name), flush=True)
    except (FetchError, OSError) as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def cache_dir() -> Path:
    """Return the directory in which everything lies."""
    if own := os.environ.get("TCLCHAN_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "tclchan"


def fetch(name: str) -> Path:
    """Return the directory of *name*, which is made if it is not there."""
    todo = recipe(name)

    def make(directory: Path, place: Path) -> None:
        todo.unpack(download(name, todo, directory), directory / "result", place)

    return cached(f"{name}-{todo.digest}", make)


def cached(name: str, make: Callable[[Path, Path], None]) -> Path:
    """Return the directory *name* of the cache, which *make* makes if it is not there.

    It is called with a directory to work in, where it leaves ``result``, and with the place where
    that will be in the end.
    """
    cache = cache_dir()
    place = cache / name
    if place.is_dir():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("partial-*"):
            shutil.rmtree(leftover)
        if not place.is_dir():
            with tempfile.TemporaryDirectory(prefix="partial-", dir=cache) as directory:
                make(Path(directory), place)
                (Path(directory) / "result").rename(place)
    return place


def download(name: str, todo: Recipe, directory: Path) -> Path:
    """Download the packages into a directory below *directory*, and return that."""
    error = ""
    for number, suites in enumerate(todo.suites):
        work = directory / f"try{number}"
        packages = work / "packages"
        packages.mkdir(parents=True)
        try:
            apt = apt_get(work, suites, todo.source)
            if todo.source:
                apt_source(apt, todo.packages[0], packages)
            else:
                run([*apt, "download", *todo.packages], cwd=packages)
        except FetchError as failure:
            error = error or str(failure)
        else:
            return packages
    raise FetchError(f"cannot get {name}: {error}")


def apt_source(apt: list[str], package: str, packages: Path) -> None:
    """Download a source package, of the version that *package* names if there is such."""
    get = [*apt, "--download-only", "source"]
    try:
        run([*get, package], cwd=packages)
    except FetchError:
        name, named, _ = package.partition("=")
        if not named:
            raise
        run([*get, name], cwd=packages)


def apt_get(work: Path, suites: str, source: bool) -> list[str]:
    """Return an apt-get that knows the packages of *suites*, and keeps all it writes in *work*."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    stanzas = list(stanzas_for(suites, codename, source))
    if not stanzas:
        raise FetchError(f"apt's sources in {APT} have no Debian archive with the suite {codename}")
    (work / "lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    (work / "apt.sources").write_text("\n".join(stanzas))
    # Read after the machine's own configuration. What is installed, or pinned, or to be done after
    # an update is of no matter here; and apt's own user cannot write here.
    (work / "apt.conf").write_text(
        f"""\
Dir::State::lists "{work}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{work}/cache";
Dir::Etc::sourcelist "{work}/apt.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
    )
    apt = ["apt-get", "-qq", "-c", str(work / "apt.conf")]
    run([*apt, "-o", "APT::Update::Error-Mode=any", "update"])
    return apt


def stanzas_for(suites: str, codename: str, source: bool) -> Iterator[str]:
    """Make stanzas for *suites* from those that the machine has for its own release.

    Suites whose name has a dash lie elsewhere on some archives, so each is kept only where the
    machine has it; any other one is on every archive that has the machine's release.
    """
    wanted = suites.format(codename=codename).split()
    for stanza in machine_stanzas():
        had = set(stanza["suites"].split()) if "main" in stanza["components"].split() else set()
        found = [
            suite for suite in wanted if suite in had or (codename in had and "-" not in suite)
        ]
        if found:
            yield "".join(
                [
                    f"Types: {'deb-src' if source else 'deb'}\n",
                    f"URIs: {stanza['uris']}\n",
                    f"Suites: {' '.join(found)}\n",
                    "Components: main\n",
                    f"Signed-By: {stanza['signed-by']}\n" if "signed-by" in stanza else "",
                ]
            )


def machine_stanzas() -> Iterator[Stanza]:
    """Yield what apt's sources say, in either of the two forms of their files."""
    directory = APT / "sources.list.d"
    for path in [APT / "sources.list", *sorted(directory.glob("*.list"))]:
        if path.is_file():
            yield from one_line_stanzas(path.read_text())
    for path in sorted(directory.glob("*.sources")):
        yield from deb822_stanzas(path.read_text())


def one_line_stanzas(text: str) -> Iterator[Stanza]:
    """Yield the entries of a file whose lines are ``deb [option=value] URI SUITE COMPONENT...``."""
    entry = re.compile(r"^\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#\n]+)", re.M)
    for options, uri, suite, components in entry.findall(text):
        stanza = {"uris": uri, "suites": suite, "components": components}
        if match := re.search(r"signed-by=(\S+)", options):
            stanza["signed-by"] = match[1].replace(",", " ")
        yield stanza


def deb822_stanzas(text: str) -> Iterator[Stanza]:
    """Yield the entries of a file of stanzas; the lines that continue a value stay in it."""
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.M)
        stanza = {name.lower(): value for name, value in fields}
        if stanza.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        if {"uris", "suites", "components"} <= stanza.keys():
            yield stanza


def unpack_source(packages: Path, target: Path, _place: Path) -> None:
    """Unpack upstream's sources. Debian's patches of them are of no matter to the tests."""
    (archive,) = packages.glob("*.orig.tar.*")
    parent = packages / "unpacked"
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            file.extraction_filter = tarfile.data_filter
        file.extractall(parent)
    (top,) = parent.iterdir()
    top.rename(target)


def unpack_programs(packages: Path, target: Path, _place: Path) -> None:
    """Unpack packages whose programs run where they lie."""
    for package in sorted(packages.glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(target)])


def unpack_tcl9(packages: Path, target: Path, place: Path) -> None:
    """Unpack programs and libraries, and add what makes them usable from *place*."""
    unpack_programs(packages, target, place)
    (library,) = target.glob("usr/lib/*/libtcl9.0.so")
    (loader,) = (path for path in library.parent.glob("ld*.so.*") if path.is_file())
    script = target / "bin" / "tclsh9.0"
    script.parent.mkdir()
    root = shlex.quote(str(place))
    script.write_text(TCLSH.format(root=root, triplet=library.parent.name, loader=loader.name))
    script.chmod(0o755)
    text = (library.parent / "pkgconfig/tcl9.0.pc").read_text()
    for pattern, replacement in PKG_CONFIG:
        text = re.sub(pattern, replacement.format(root=place), text, flags=re.M)
    (target / "pkgconfig").mkdir()
    (target / "pkgconfig/tcl9.0.pc").write_text(text)


def output(*command: str) -> str:
    """Return what a command prints, or nothing if it fails."""
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def run(command: list[str], cwd: Path | None = None) -> None:
    """Run a command in silence; if it fails, its first error is the error."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FetchError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).splitlines()
        errors = [line for line in lines if line.startswith(("E: ", "W: "))] or lines
        why = errors[0] if errors else f"exit code {done.returncode}"
        raise FetchError(f"{command[0]}: {why}")


if __name__ == "__main__":
    sys.exit(main())
