"""What ``serve`` tells the terminal: progress while it reads, then what is served, what is not and why, and where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ..rest.reflect import Reflection, Served

__all__ = ["progress_line", "report"]


@contextmanager
def progress_line(label: str, stream: TextIO | None = None) -> Generator[Callable[[str], None] | None, None, None]:
    """Show what is being read, on a line that moves in a terminal, else on one plain line."""
    target: TextIO = sys.stderr if stream is None else stream
    try:
        from rich.console import Console
        from rich.markup import escape
    except ImportError:  # an extra; plain lines do
        _line(target, f"Reading {label}")
        yield None
        return
    console = Console(file=target)
    if not console.is_terminal:
        _line(target, f"Reading {label}")
        yield None
        return
    with console.status(f"Reading {escape(label)}") as status:
        yield lambda what: status.update(f"Reading {escape(label)}: {escape(_plain(what))}")


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
    _print_table(target, f"{label} ({'read and write' if reflection.write else 'read only'})", header, rows)
    for name, url in (("Start page", f"{base}/"), ("Docs", f"{base}{docs}"), *more):
        _line(target, f"{name}: {url}")
    target.flush()


def _row(item: Served) -> tuple[str, ...]:
    resource = item.resource
    columns = "?" if resource is None else str(len(resource.fields))
    key = "" if resource is None else ", ".join(field.name for field in resource.key)
    hidden = [] if resource is None else [field.name for field in resource.fields.values() if field.secret]
    notes = [f"cannot be read: {item.problem}"] if item.problem is not None else []
    notes += [f"not shown: {', '.join(hidden)}"] if hidden else []
    return (item.path, item.entry.kind, columns, key, "; ".join(notes))


def _print_table(stream: TextIO, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    clean = [[_plain(cell) for cell in row] for row in rows]
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:  # an extra; plain lines do
            pass
        else:
            table = Table(title=Text(_plain(title)), title_justify="left")
            for name in header:
                table.add_column(name, overflow="fold")
            for row in clean:
                table.add_row(*(Text(cell) for cell in row))
            Console(file=stream).print(table)
            return
    widths = [max(len(row[number]) for row in [list(header), *clean]) for number in range(len(header) - 1)]
    _line(stream, title)
    for row in [list(header), *clean]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        _line(stream, "  ".join([*cells, row[-1]]).rstrip())


def _plain(text: str) -> str:
    """Text without what would move a terminal: a name may hold anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _line(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(_plain(text).encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
