"""What ``serve`` tells the terminal: progress while it reads, then what is served, what is not and why, and where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ..rest.reflect import Reflection, Served
from .table import plain, print_line, print_table

__all__ = ["progress_line", "report"]


@contextmanager
def progress_line(label: str, stream: TextIO | None = None) -> Generator[Callable[[str], None], None, None]:
    """Show what is being read, on a line that moves in a terminal, else on one plain line once it can be read."""
    target: TextIO = sys.stderr if stream is None else stream
    told: list[str] = []

    def tell_once(what: str) -> None:
        if not told:
            print_line(target, f"Reading {label}: {what}")
        told.append(what)

    try:
        from rich.console import Console
        from rich.markup import escape
    except ImportError:  # an extra; plain lines do
        yield tell_once
        return
    console = Console(file=target)
    if not console.is_terminal:
        yield tell_once
        return
    with console.status(f"Reading {escape(label)}") as status:
        yield lambda what: status.update(f"Reading {escape(label)}: {escape(plain(what))}")


def report(
    label: str,
    reflection: Reflection,
    base: str,
    docs: str,
    more: Sequence[tuple[str, str]] = (),
    stream: TextIO | None = None,
) -> None:
    """Print a table of what is served, what is not and why, and the URLs.

    ``base`` is where the server is, such as ``http://127.0.0.1:8000``; ``docs`` the path of the documentation;
    ``more`` are names and texts of further lines.
    """
    target: TextIO = sys.stdout if stream is None else stream
    header = ("Path", "Kind", "Columns", "Key", "")
    rows = [_row(item) for item in reflection.served]
    served = {item.name for item in reflection.served}
    rows += [("-", "", "", "", f"{name}: not served, {why}") for name, why in reflection.skipped if name not in served]
    print_table(target, f"{label} ({'read and write' if reflection.write else 'read only'})", header, rows)
    for name, url in (("Start page", f"{base}/"), ("Docs", f"{base}{docs}"), *more):
        print_line(target, f"{name}: {url}")
    target.flush()


def _row(item: Served) -> tuple[str, ...]:
    resource = item.resource
    columns = "?" if resource is None else str(len(resource.fields))
    key = "" if resource is None else ", ".join(field.name for field in resource.key)
    hidden = [] if resource is None else [field.name for field in resource.fields.values() if field.secret]
    notes = [f"cannot be read: {item.problem}"] if item.problem is not None else []
    notes += [f"not shown: {', '.join(hidden)}"] if hidden else []
    return (item.path, item.entry.kind, columns, key, "; ".join(notes))
