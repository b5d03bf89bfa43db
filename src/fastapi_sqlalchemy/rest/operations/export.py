"""Every row of a list, a chunk at a time by keyset: memory does not grow, and no row is lost or seen twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from ..fields import Field
from ..query import Cursor, ListQuery, Ordering, Segment, compile_filters, is_exact
from .include import Tree
from .read import Page, read_objects
from .rows import Target, dialect_of

__all__ = ["CHUNK", "Chunk", "Position", "read_chunk"]

CHUNK = 1000
"""Rows that are read at a time, and written."""

SLOW = 0.1
"""Seconds of a read after which the next one takes twice as many rows: it may have sorted the whole table for them."""

MOST_CHUNKS = 8
MOST_BYTES = 4_000_000
"""What a read may grow to, in chunks and in bytes that leave."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, as objects, and how many seconds they took to read."""

    objects: list[dict[str, Any]]
    seconds: float = 0.0

    def parts(self) -> Iterator[Chunk]:
        """The rows a thousand at a time, for an event loop that has other things to do in between."""
        for start in range(0, max(1, len(self.objects)), CHUNK):
            yield Chunk(self.objects[start : start + CHUNK])


class Position:
    """How far the reading of a list has come; ``limit`` bounds all of it, None reads to the end."""

    def __init__(self, query: ListQuery, limit: int | None) -> None:
        self.query = query
        self.left = limit
        self.cursor = query.cursor
        self.offset = query.skip
        self.is_done = False
        self._size = CHUNK

    @property
    def size(self) -> int:
        """How many rows to read next."""
        return self._size if self.left is None else min(self._size, self.left)

    def pace(self, seconds: float, written: int) -> None:
        """Note how long the last read took and how many bytes came of it: slow ones are made fewer and larger."""
        if seconds > SLOW and 2 * written < MOST_BYTES:
            self._size = min(2 * self._size, MOST_CHUNKS * CHUNK)

    def advance(self, ordering: Ordering, places: Sequence[tuple[Any, ...]], following: tuple[Any, ...] | None) -> None:
        """Note that rows were read; ``places`` are the values of the order's columns in each of them.

        ``following`` are those of the next row, None where there is none or it was not read.
        """
        read = len(places)
        self.is_done = read < self.size
        if self.left is not None:
            self.left -= read
            self.is_done = self.is_done or self.left <= 0
        if not places or not ordering.has_cursors or not is_exact(places[-1]):
            self.offset += read
        else:
            self.cursor = ordering.behind(self.cursor or Cursor(None), places, following)
            self.offset = self.cursor.ties


def _segments(ordering: Ordering, position: Position) -> list[Segment]:
    """Parts that an index serves, where all that is skipped lies in the first of them."""
    cursor = position.cursor
    if position.offset > (0 if cursor is None else cursor.ties):
        backward = cursor is not None and cursor.backward
        return [Segment(ordering.criteria(cursor), ordering.order_by(backward=backward))]
    return ordering.segments(cursor, whole=position.query.is_filtered)


def read_chunk(session: Session, target: Target, position: Position, fields: Sequence[Field], tree: Tree) -> Chunk:
    """Read the next rows and move the position past them."""
    dialect = dialect_of(session)
    query = replace(position.query, cursor=position.cursor)
    ordering = Ordering(target.resource, query.sort, dialect)
    where = compile_filters(query, target.resource, dialect, target.ownership.criteria)
    # One row more tells how much of a place a cursor has to hold; a hook would be given it twice.
    ahead = int(not ordering.is_total and "after_read" not in target.hooks)
    page = Page(
        fields,
        where=where,
        segments=_segments(ordering, position),
        limit=position.size + ahead,
        offset=position.offset,
        extra=ordering.columns() if ordering.has_cursors else (),
        tree=tree,
    )
    started = time.monotonic()
    objects, values = read_objects(session, target, page)
    seconds = time.monotonic() - started
    if len(values) > position.size:
        *values, following = values
        objects.pop()
        position.advance(ordering, values, following)
    else:
        position.advance(ordering, values, None)
    return Chunk(objects, seconds)
