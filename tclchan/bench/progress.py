"""A progress bar, where rich is installed and a terminal is there to see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar for *total* steps on standard error.

    Yields:
        What is called at the beginning of each step, with a word about it.
    """
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed
    except ImportError:
        yield lambda what: None
        return
    columns = (MofNCompleteColumn(), BarColumn(), Elapsed(), TextColumn("{task.description}"))
    # Drawn at each step, not by a thread: that would take time from the load.
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
    with bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what, refresh=True)

        yield step
