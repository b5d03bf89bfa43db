"""A progress bar for rows on their way, in a terminal and where the extra ``cli`` is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["moving"]


@contextmanager
def moving(label: str, size: int | None) -> Generator[Callable[[int, int], None], None, None]:
    """Yield what is told of the rows and bytes so far; ``size`` is that of the file, where it is known."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    except ImportError:  # an extra; the result is told in the end
        yield _ignore
        return
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _ignore
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *((TaskProgressColumn(), TimeRemainingColumn()) if size else ()),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=size or None, rows=0, rate=0.0)

        def tell(rows: int, read: int) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = rows / elapsed if elapsed else 0.0
            progress.update(task, completed=read if size else None, rows=rows, rate=rate)

        yield tell


def _ignore(_rows: int, _read: int) -> None:
    """Tell nobody."""
