"""Statements of pages and counts, built once for each shape of query.

Building a statement and its cache key costs several times what running it does. The text depends on the names and
operators of a query alone; values, cursors, limit and offset are parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa

from ..resource import Resource
from .compiler import Visible, build_filters, outline, own_criteria
from .expressions import Take
from .operands import family_of
from .ordering import Ordering, Segment
from .tree import ListQuery

__all__ = ["Planned", "Plans"]


_Row = TypeVar("_Row")
Steps: TypeAlias = Generator[tuple[sa.Select[Any], dict[str, Any]], list[_Row], list[_Row]]
_Built: TypeAlias = tuple[tuple[sa.Select[Any], ...], Ordering]
_LIMIT = "page_limit"
_OFFSET = "page_offset"


class Planned(NamedTuple):
    """The statements of a page, their parameters for one request, and the order that makes cursors of its rows.

    Where the first column of the order may be NULL there can be two statements, whose rows follow each other.
    """

    statements: tuple[sa.Select[Any], ...]
    parameters: dict[str, Any]
    ordering: Ordering

    def rows(self, run: Callable[[sa.Select[Any], dict[str, Any]], list[_Row]]) -> list[_Row]:
        """Return the rows of the page and one more, if there is one; ``run`` executes a statement."""
        steps: Steps[_Row] = self.steps()
        request = next(steps)
        while True:
            try:
                request = steps.send(run(*request))
            except StopIteration as end:
                found: list[_Row] = end.value
                return found

    def steps(self) -> Steps[_Row]:
        """The same for whoever runs statements in another way: yields each with its parameters, is sent its rows."""
        wanted = self.parameters[_LIMIT]
        found: list[_Row] = []
        for statement in self.statements:
            found.extend((yield statement, {**self.parameters, _LIMIT: wanted - len(found)}))
            if len(found) >= wanted:
                break
        return found


class Plans:
    """The statements of one resource, the newest ``maximum`` of them.

    ``visible`` has to return the same criteria for every request: where they depend on the caller, use
    ``compile_filters``.
    """

    def __init__(self, resource: Resource, visible: Visible = own_criteria, *, maximum: int = 256) -> None:
        self.resource = resource
        self.visible = visible
        self.maximum = maximum
        self._built: dict[Hashable, _Built] = {}

    def __len__(self) -> int:
        return len(self._built)

    def page(
        self, query: ListQuery, dialect: sa.Dialect, key: Hashable, select: Callable[[Ordering], sa.Select[Any]]
    ) -> Planned:
        """Return the statement of a page: filtered, ordered, past the cursor, one row longer than the page.

        ``select`` makes the statement that this narrows; it is called once for each ``key`` and shape of query.
        Raises ``QueryError`` for a cursor that does not fit.
        """
        shapes, values = outline(query, dialect)
        cursor = query.cursor
        place: Hashable = None
        if cursor is not None:
            holes = None if cursor.values is None else tuple(value is None for value in cursor.values)
            place = (cursor.backward, holes)
        shape = (key, dialect.name, shapes, query.sort, place, query.style, bool(query.skip))
        known = self._built.get(shape)
        if known is None:
            known = self._keep(shape, self._page(query, dialect, select, skips=bool(query.skip)))
        statements, ordering = known
        parameters = {f"filter_{number}": value for number, value in enumerate(values, 1)}
        if cursor is not None and cursor.values is not None:
            present = (value for value in ordering.checked(cursor) if value is not None)
            parameters |= {f"cursor_{number}": value for number, value in enumerate(present, 1)}
        parameters[_LIMIT] = query.limit + 1
        if query.skip:
            parameters[_OFFSET] = query.skip
        return Planned(statements, parameters, ordering)

    def count(self, query: ListQuery, dialect: sa.Dialect) -> tuple[sa.Select[Any], dict[str, Any]]:
        """Return the statement that counts the rows of a query, and its parameters."""
        shapes, values = outline(query, dialect)
        shape = ("count", dialect.name, shapes)
        known = self._built.get(shape)
        if known is None:
            statement: sa.Select[Any] = sa.select(sa.func.count()).select_from(self.resource.table)
            statement = statement.where(*self.visible(self.resource.source()), *self._filters(query, dialect))
            known = self._keep(shape, ((statement,), Ordering(self.resource, (), dialect)))
        return known[0][0], {f"filter_{number}": value for number, value in enumerate(values, 1)}

    def _page(
        self, query: ListQuery, dialect: sa.Dialect, select: Callable[[Ordering], sa.Select[Any]], *, skips: bool
    ) -> _Built:
        ordering = Ordering(self.resource, query.sort, dialect)
        if query.style == "offset":
            segments = [Segment([], ordering.order_by())]
        else:
            segments = ordering.segments(query.cursor, lambda: _named("cursor"), whole=query.is_filtered)
        base = select(ordering).where(*self._filters(query, dialect))
        statements: list[sa.Select[Any]] = []
        for segment in segments:
            statement = base.where(*segment.criteria).order_by(*segment.order_by)
            statement = statement.limit(sa.bindparam(_LIMIT, type_=sa.Integer()))
            if skips and not statements:
                statement = statement.offset(sa.bindparam(_OFFSET, type_=sa.Integer()))
            statements.append(statement)
        return tuple(statements), ordering

    def _filters(self, query: ListQuery, dialect: sa.Dialect) -> list[sa.ColumnElement[bool]]:
        shapes, _ = outline(query, dialect)
        return build_filters(shapes, self.resource.source(), family_of(dialect), _named("filter"), self.visible)

    def _keep(self, shape: Hashable, built: _Built) -> _Built:
        while len(self._built) >= self.maximum:
            self._built.pop(next(iter(self._built)), None)
        self._built[shape] = built
        return built


def _named(prefix: str) -> Take:
    number = 0

    def take(sql_type: sa.types.TypeEngine[Any], *, expanding: bool = False) -> sa.BindParameter[Any]:
        nonlocal number
        number += 1
        return sa.bindparam(f"{prefix}_{number}", type_=sql_type, expanding=expanding)

    return take
