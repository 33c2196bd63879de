"""``tclchan doctor``: what there is, what works, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

from . import _build_config
from ._attach import library_dir
from ._engines import engines
from ._interp import Interp
from ._platform import system
from .errors import TclchanError


def main(args: argparse.Namespace) -> int:
    """Print the report; the exit code is 0 if the driver works on at least one engine."""
    report = examine()
    print(json.dumps(report, indent=2) if args.json else _text(report))
    return 0 if report["chosen"] else 1


def examine() -> dict[str, Any]:
    """Collect the facts."""
    report: dict[str, Any] = {
        "versions": {
            "tclchan": _build_config.VERSION,
            "driver": "",
            "Tcl": "",
            "Python": platform.python_version(),
            "kernel": f"{platform.system()} {platform.release()}",
        },
        "paths": {"driver": str(library_dir()), "Tcl library": ""},
        "build": {
            "compiler": _build_config.COMPILER,
            "type": _build_config.BUILDTYPE,
            "for Tcl": _build_config.TCL,
            "liburing": _build_config.LIBURING,
            "sanitizers": _build_config.SANITIZE,
            "testing": _build_config.TESTING,
        },
        "engines": [
            {"name": e.name, "usable": e.usable, "reason": e.reason, "remedy": e.remedy}
            for e in engines()
        ],
        "chosen": "",
        "problem": "",
        "limits": system.limits(),
    }
    try:
        with Interp() as interp:
            report["versions"]["driver"] = interp.eval("package present Iocpsock")
            report["versions"]["Tcl"] = interp.eval("info patchlevel")
            report["paths"]["Tcl library"] = interp.eval("info library")
            report["chosen"] = interp.eval("iocp::engine")
    except (TclchanError, ValueError) as error:
        report["problem"] = str(error)
    return report


def _text(report: dict[str, Any]) -> str:
    lines = []
    for title in ("versions", "paths", "build", "limits"):
        facts = [f"  {name + ':':<18}{value}" for name, value in report[title].items() if value]
        lines += [f"{title}:", *facts] if facts else []
    lines.append("engines:")
    for engine in report["engines"]:
        state = "usable" if engine["usable"] else f"not usable: {engine['reason']}"
        if engine["name"] == report["chosen"]:
            state += ", chosen"
            if os.environ.get("TCLCHAN_ENGINE") == engine["name"]:
                state += " by TCLCHAN_ENGINE"
        lines.append(f"  {engine['name'] + ':':<18}{state}")
        if engine["remedy"]:
            lines.append(f"  {'':<18}what to do: {engine['remedy']}")
    if report["problem"]:
        lines.append(f"problem: {report['problem']}")
    return "\n".join(lines)
