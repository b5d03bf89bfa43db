"""What a query string asks for, once it is read and checked: filters, order, page, columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..fields import Field
from ..relations import Relation
from .settings import CountMode

__all__ = [
    "And",
    "Comparison",
    "Cursor",
    "IncludeTree",
    "ListQuery",
    "Node",
    "Not",
    "Or",
    "Related",
    "Search",
    "SortKey",
]

IncludeTree = Mapping[str, "IncludeTree"]
"""Names of relations, each with the relations to include below it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One column against a value: a scalar, a tuple (``in``, ``not_in``, ``between``), a flag, or a pattern."""

    field: Field
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Search:
    """A text that is looked for, without case, in the columns of text of the resource at hand."""

    text: str


@dataclass(frozen=True, slots=True)
class And:
    """All of the items hold."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the items holds."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """SQL's NOT: a comparison with NULL is unknown, and so is its negation; neither is a match."""

    item: Node


@dataclass(frozen=True, slots=True)
class Related:
    """There is a related row for which ``item`` holds; ``None`` asks for any related row."""

    relation: Relation
    item: Node | None


Node: TypeAlias = Comparison | Search | And | Or | Not | Related


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column of an order."""

    field: Field
    descending: bool = False
    nulls_last: bool = True


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an order: the row with these values, and which side of it is wanted.

    ``position`` is how many rows come before the page that a forward cursor opens, or before the row that a backward
    one ends at. A cursor without values is the start. Where no key tells rows apart, the values may be those
    of the first columns alone, and ``ties`` is how many of the rows with these values come before the place; 0 leaves
    all of them out.
    """

    values: tuple[Any, ...] | None
    backward: bool = False
    position: int = 0
    ties: int = 0

    def after(self, passed: Iterable[tuple[Any, ...]]) -> Cursor:
        """Return the place behind rows with these values, the last of them first, where no key tells rows apart."""
        ties, last = 0, self.values
        for values in passed:
            if ties and values != last:
                return Cursor(last, ties=ties)
            ties, last = ties + 1, values
        return Cursor(last, ties=ties + (self.ties if last == self.values else 0))


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list as it was asked for.

    ``sort`` is as given, without the key that makes it total. ``offset`` is None when it was not given; ``cursor`` is
    None when the request named no cursor. ``fields`` is None when all readable fields are wanted.
    """

    filters: tuple[Node, ...]
    search: str | None
    sort: tuple[SortKey, ...]
    limit: int
    offset: int | None
    cursor: Cursor | None
    fields: tuple[Field, ...] | None
    include: IncludeTree
    count: CountMode

    @property
    def style(self) -> Literal["offset", "cursor"]:
        """How the pages of this request are linked: by cursor, unless an offset was given."""
        return "cursor" if self.offset is None else "offset"

    @property
    def skip(self) -> int:
        """How many rows to leave out: those of the offset, or those that a cursor counts."""
        return self.offset or (0 if self.cursor is None else self.cursor.ties)

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.filters) or self.search is not None
