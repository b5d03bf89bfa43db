"""GET and HEAD: a page of rows, with what is embedded and how many there are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from ..operations import read
from ..operations.rows import Target, dialect_of
from ..query import Ordering, Segment, compile_nodes
from .answers import answer_for
from .pages import content_range, read_range, status_of
from .plan import Level, read_plan
from .preferences import Preferences
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

    objects, total = await served.work.run(work, read_only=True)
    status = status_of(offset, len(objects), total)
    headers = content_range(offset, len(objects), total) | preferences.applied(("handling", "count"))
    return answer.response(objects, names_of(level), status, headers)


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
    """Return what to read of a level."""
    ordering = Ordering(target.resource, level.sort, dialect_of(session))
    return read.Page(
        tuple(level.fields),
        where=where,
        segments=[Segment([], ordering.order_by())],
        limit=limit,
        offset=offset,
        extra=() if level.fields else (sa.literal_column("1"),),  # a statement selects something
        branches=level.branches,
    )


def count_rows(session: Session, target: Target, mode: str | None, where: list[sa.ColumnElement[bool]]) -> int | None:
    """Return how many rows there are, exactly or about; None where nobody wants to know."""
    if mode is None:
        return None
    count = read.count_rows if mode == "exact" else read.estimate_rows
    return count(session, target, where)


def names_of(level: Level) -> tuple[str, ...]:
    """Return the members of an answered row."""
    return tuple(dict.fromkeys([*level.names, *(name for item in level.branches for name in item.names)]))
