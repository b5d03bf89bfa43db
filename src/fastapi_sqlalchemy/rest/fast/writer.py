"""Writes rows of a driver as objects: one comprehension, made for the columns at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..operations.rows import Row
from .statement import Process

__all__ = ["Write", "writer"]

Write = Callable[[Iterable[Row]], list[dict[str, Any]]]


def writer(names: Sequence[str], width: int, processors: Iterable[tuple[int, Process]]) -> Write:
    """Return a function that makes an object of each row: ``names`` are those of its first values, of ``width``.

    A value goes through its processors in the order given. The function is the text of a comprehension, as for
    ``dataclasses`` and named tuples: a third of the time of ``dict(zip(names, row))``. Nothing of a request is in it.
    """
    values = [f"v{place}" for place in range(width)]
    targets = ", ".join(values)
    functions: dict[str, Any] = {}
    for number, (place, process) in enumerate(processors):
        functions[f"p{number}"] = process
        values[place] = f"p{number}({values[place]})"
    items = ", ".join(f"{name!r}: {value}" for name, value in zip(names, values, strict=False))
    source = f"lambda rows: [{{{items}}} for {targets}, in rows]"
    made: Write = eval(source, functions)  # noqa: S307  # names are quoted by repr, everything else is made here
    return made
