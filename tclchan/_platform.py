"""What the systems have under different names, or one of them not at all: one name for each.

Nothing else in the package asks which system this is, but for `_hosting` and `_cli`: they choose
from modules that are for one system each.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from . import _windows as system
else:
    from . import _posix as system

__all__ = ["system"]
