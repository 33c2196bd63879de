"""Tcl's ``socket2``, a socket driver in the completion style, hosted from Python.

`attach` gives the driver to a tkinter interpreter that exists; `Interp` owns one of its own, with
an event loop that stops at once when asked, and `serving` a web server in that. `engines` tells
what this machine can do, and `stats` what the driver has done. A plain tclsh finds the driver in
`library_dir`.
"""

from ._attach import Attachment, attach, library_dir
from ._build_config import VERSION as __version__
from ._engines import EngineInfo, engines
from ._httpd import Site, serving
from ._interp import Interp
from ._stats import Stats, stats
from .errors import AttachError, EngineUnavailable, HttpdError, ScriptError, TclchanError

__all__ = [
    "AttachError",
    "Attachment",
    "EngineInfo",
    "EngineUnavailable",
    "HttpdError",
    "Interp",
    "ScriptError",
    "Site",
    "Stats",
    "TclchanError",
    "__version__",
    "attach",
    "engines",
    "library_dir",
    "serving",
    "stats",
]
