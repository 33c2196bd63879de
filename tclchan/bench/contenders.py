"""What is compared: the sockets of each tclsh, its own and the driver's on every engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from .._attach import library_dir
from .errors import BenchError, LeftOut
from .server import Server, serving

TCL_DIR = Path(__file__).with_name("tcl")
MODES = ("guest", "host")
# The notifier of Tcl 8.6 is select(2), which takes no descriptor over 1,023; some of those below
# are for something else.
_SELECT_CONNECTIONS = 1000


@dataclass(frozen=True)
class Tclsh:
    """A tclsh, and what there is in it.

    Attributes:
        path: the program.
        patchlevel: its version.
        engines: the engines on which the driver works there.
        missing: why there is no driver; empty if there is.
        features: commands and channel options of the driver that not every version has.
        servers: the web servers that are installed for it.
    """

    path: str
    patchlevel: str
    engines: Sequence[str] = ()
    missing: str = ""
    features: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Contender:
    """A column of the comparison: a Tcl, and which sockets of it.

    Attributes:
        tclsh: the Tcl.
        engine: the engine of ``socket2``; empty for ``socket``.
        mode: ``guest``, in Tcl's own event loop, or ``host``, with the loop on the engine.
        core: the pinned core of the server.
    """

    tclsh: Tclsh
    engine: str = ""
    mode: str = "guest"
    core: int | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What the tables call it."""
        sockets = f"{self.engine} {self.mode}" if self.engine else "core"
        return f"{self.tclsh.patchlevel} {sockets}"

    @property
    def is_core(self) -> bool:
        """Whether it is Tcl's own ``socket``, to which the others are compared."""
        return not self.engine

    @property
    def connections(self) -> int | None:
        """How many connections it can have at once; None if nothing but the system limits it."""
        select = self.is_core and self.tclsh.patchlevel.startswith("8.")
        return _SELECT_CONNECTIONS if select else None

    def need(self, feature: str) -> None:
        """Leave the workload out if the driver has no *feature*, for the core too."""
        if feature not in self.tclsh.features:
            raise LeftOut(f"the driver has no {feature}")

    def variables(self) -> list[str]:
        """The variables that its Tcl scripts begin with, as names and values."""
        return [
            *("command", "socket2" if self.engine else "socket"),
            *("library", str(library_dir())),
            *("notifier", "ring" if self.mode == "host" else "tcl"),
        ]

    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {"TCLCHAN_ENGINE": self.engine} if self.engine else {}

    def serve(self, *scripts: str, **variables: object) -> AbstractContextManager[Server]:
        """Run *scripts* in a server process for the length of a block."""
        words = [word for item in variables.items() for word in map(str, item)]
        return serving(
            [
                *(self.tclsh.path, str(TCL_DIR / "serve.tcl"), " ".join(scripts)),
                *self.variables(),
                *words,
            ],
            self.core,
            self.environment(),
            self.engine,
        )


def find_tclsh(path: str) -> Tclsh:
    """Ask a tclsh what it has."""
    program = shutil.which(path)
    if program is None:
        raise BenchError(f'"{path}" is no program: name a tclsh with --tclsh PATH')
    # An engine that is named here would be the only one that is tried.
    environment = {k: v for k, v in os.environ.items() if k != "TCLCHAN_ENGINE"}
    try:
        done = subprocess.run(
            [program, str(TCL_DIR / "probe.tcl"), str(library_dir())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f'"{path}" is no tclsh: {error}') from error
    facts = [line.partition(" ")[::2] for line in done.stdout.splitlines()]
    found = {name: [v for n, v in facts if n == name] for name, _ in facts}
    if done.returncode != 0 or "patchlevel" not in found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f'"{path}" is no tclsh: {said[0] if said else "it says nothing"}')
    return Tclsh(
        path=program,
        patchlevel=found["patchlevel"][0],
        engines=found.get("engine", ()),
        missing=" ".join(found.get("missing", ())),
        features=frozenset(found.get("command", []) + found.get("option", [])),
        servers=frozenset(found.get("server", ())),
    )


def contenders(
    tclshs: Sequence[Tclsh], engines: Sequence[str], modes: Sequence[str], core: int | None
) -> list[Contender]:
    """All combinations: the sockets of each Tcl, then the driver's on each engine in each mode.

    Args:
        tclshs: the Tcls.
        engines: the names of the engines, or none for all that work.
        modes: those of `MODES`.
        core: the core of the machine that the servers are pinned to.
    """
    result = []
    for tclsh in tclshs:
        result.append(Contender(tclsh, core=core))
        result += [
            Contender(tclsh, engine, mode, core)
            for engine in tclsh.engines
            if not engines or engine in engines
            for mode in modes
        ]
    return result
