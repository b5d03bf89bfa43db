"""GET and HEAD: a page of rows, with what is embedded and how many there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from ..operations import read
from ..operations.rows import Target, dialect_of
from ..query import ListQuery, Ordering, Segment, SortKey, compile_nodes
from ..query.errors import shown
from ..relations import Relation
from ..selection import Selection
from ..serialize import Serializer
from .answers import answer_for
from .errors import failure
from .pages import content_range, known_total, read_range, status_of
from .plan import Level
from .preferences import Preferences
from .reader import read_plan
from .tables import Served, Tables

__all__ = ["names_of", "read_rows", "select_rows", "wanted_page"]


async def read_rows(request: Request, tables: Tables, served: Served) -> Response:
    """Answer a GET or a HEAD."""
    preferences = Preferences.of(request)
    answer = answer_for(request)
    settings = served.work.settings.query
    plan = read_plan(served.resource, tables.names, served.pairs(request), settings, served.family)
    level = plan.level
    limit, offset = read_range(request, level.limit, level.offset, settings)
    target = await served.target(request, plan.reached())

    def work(session: Session) -> tuple[list[Any], int | None]:
        where = compile_nodes(level.nodes, target.resource, dialect_of(session), target.ownership.criteria)
        found = select_rows(session, target, level, where, limit, offset)
        return found, count_rows(session, target, preferences.count, where)

    found = await _read_shortly(served, target, level, limit, offset, preferences.count)
    objects, counted = await served.work.run(work, read_only=True) if found is None else found
    is_exact = preferences.count == "exact"
    total = known_total(offset, len(objects), counted)
    status = status_of(offset, len(objects), total, is_exact=is_exact)
    headers = content_range(offset, len(objects), total) | preferences.applied(("handling", "count"))
    return answer.response(objects, names_of(level), status, headers)


async def _read_shortly(
    served: Served, target: Target, level: Level, limit: int, offset: int, count: str | None
) -> tuple[list[Any], int | None] | None:
    """Plain rows by the short way of a list, with a statement that was built for an earlier request of this shape."""
    if level.embedded or not level.is_regular or not level.fields or not limit or "after_read" in target.hooks:
        return None
    chosen = tuple(item.stored for item in level.fields)
    query = ListQuery(
        filters=level.nodes,
        search=None,
        sort=level.sort,
        limit=limit,
        offset=offset,
        cursor=None,
        fields=chosen,
        include={},
        count="none" if count is None else "exact" if count == "exact" else "estimated",
    )
    found = await served.listing.read_shortly(target, query, Selection(target.resource, chosen))
    if found is None:
        return None
    _, rows, total = found
    return Serializer(level.fields).objects(rows[:limit]), total


def select_rows(
    session: Session,
    target: Target,
    level: Level,
    where: list[sa.ColumnElement[bool]],
    limit: int | None = None,
    offset: int = 0,
) -> list[Any]:
    """Return the rows of a level as objects, with what is embedded in them."""
    return read.read_objects(session, target, wanted_page(session, target, level, where, limit, offset))[0]


def wanted_page(
    session: Session,
    target: Target,
    level: Level,
    where: list[sa.ColumnElement[bool]],
    limit: int | None,
    offset: int,
) -> read.Page:
    """Return what to read of a level.

    Raises a problem where a hook would see the rows of an embedding in the place of a column.
    """
    if "after_read" in target.hooks:
        _check_names(target, level)
    sort = [
        _read_over(key, level.related[key.field.name], target) if key.field.name in level.related else key
        for key in level.sort
    ]
    ordering = Ordering(target.resource, sort, dialect_of(session))
    return read.Page(
        tuple(level.fields),
        where=where,
        segments=[Segment([], ordering.order_by())],
        limit=limit,
        offset=offset,
        extra=() if level.fields else (sa.literal_column("1"),),  # a statement selects something
        branches=level.branches,
        max_rows=level.max_rows,
    )


def _check_names(target: Target, level: Level) -> None:
    read_too = {item.stored.name for item in level.fields}
    for name in (name for item in level.branches for name in item.names):
        if name in read_too:
            raise failure(400, "42712", f"{shown(name)} is a column that is selected; give the relation an alias.")


def _read_over(key: SortKey, relation: Relation, target: Target) -> SortKey:
    """The order by a column of a row that this one refers to, of one that the caller may see."""
    source = relation.target.aliased()
    joins = [here == source.column(there) for here, there in relation.pairs]
    value = sa.select(source.column(key.field)).select_from(source.selectable)
    value = value.where(*joins, *target.ownership.criteria(source)).correlate_except(source.selectable)
    return replace(key, field=replace(key.field, column=value.scalar_subquery()))


def count_rows(session: Session, target: Target, mode: str | None, where: list[sa.ColumnElement[bool]]) -> int | None:
    """Return how many rows there are, exactly or about; None where nobody wants to know."""
    if mode is None:
        return None
    count = read.count_rows if mode == "exact" else read.estimate_rows
    return count(session, target, where)


def names_of(level: Level) -> tuple[str, ...]:
    """Return the members of an answered row."""
    return tuple(dict.fromkeys([*level.names, *(name for item in level.branches for name in item.names)]))
