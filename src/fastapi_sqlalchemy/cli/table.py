"""Tables and lines for a terminal: Rich draws them where it is installed and somebody looks, else plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

__all__ = ["plain", "print_line", "print_table"]


def print_table(stream: TextIO, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their names; the last column is as wide as it is."""
    clean = [[plain(cell) for cell in row] for row in rows]
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:  # an extra; plain lines do
            pass
        else:
            table = Table(title=Text(plain(title)), title_justify="left")
            for name in header:
                table.add_column(name, overflow="fold")
            for row in clean:
                table.add_row(*(Text(cell) for cell in row))
            Console(file=stream).print(table)
            return
    widths = [max(len(row[number]) for row in [list(header), *clean]) for number in range(len(header) - 1)]
    print_line(stream, title)
    for row in [list(header), *clean]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print_line(stream, "  ".join([*cells, row[-1]]).rstrip())


def plain(text: str) -> str:
    """Text without what would move a terminal: a name may hold anything."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def print_line(stream: TextIO, text: str) -> None:
    """Print a line; what the stream's encoding has no character for is replaced."""
    encoding = stream.encoding or "utf-8"
    stream.write(plain(text).encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
