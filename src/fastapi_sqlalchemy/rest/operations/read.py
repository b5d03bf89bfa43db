"""Read one row or a page: exactly the columns that are answered, no entities.

The faster ways to run these statements belong here; nothing above this file knows how a row was fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..fields import Field
from ..narrowing import is_dict, is_items, is_table
from ..query import Planned, Segment
from ..serialize import Serializer
from .answer_size import AnswerSize
from .include import INCLUDE_LIMIT, Branch, Tree, attach, branches_of, local_columns
from .rows import Row, Target, dialect_of, fetch, key_criteria
from .write import not_found, select_row

__all__ = ["Page", "count_rows", "estimate_rows", "read_objects", "read_row", "read_rows"]


@dataclass(slots=True)
class Page:
    """What to read: answered fields, criteria and order, and the relations to include.

    ``segments`` follow each other, each with an order of its own; ``offset`` skips rows of the first one.
    ``extra`` are columns that the answer does not hold but its cursor needs; they come last in each row. ``tree`` and
    ``branches`` are the relations, those of a tree as whole rows. ``max_rows`` is the most rows of the answer, related
    ones counted as often as they are in it.
    """

    fields: Sequence[Field]
    where: Sequence[sa.ColumnElement[bool]] = ()
    segments: Sequence[Segment] = (Segment([], []),)
    limit: int | None = None
    offset: int = 0
    extra: Sequence[sa.ColumnElement[Any]] = ()
    tree: Tree = field(default_factory=dict[str, Any])
    branches: Sequence[Branch] = ()
    max_rows: int | None = None


def read_row(session: Session, target: Target, key: Sequence[Any]) -> Row:
    """Return one whole row (see ``Shape``), or raise a 404 problem."""
    return select_row(session, target, key)


def read_rows(session: Session, target: Target, page: Page) -> list[Row]:
    """Return the rows of a page: the values of its fields, then of its extra columns."""
    return _fetch(session, target, page, page.extra)


def read_planned(session: Session, planned: Planned, fields: Sequence[Field]) -> list[Row]:
    """Return the rows of a page whose statement is known already; its parameters are those of this request."""
    return planned.rows(lambda statement, parameters: fetch(session, statement, fields, parameters))


def read_objects(session: Session, target: Target, page: Page) -> tuple[list[dict[str, Any]], list[Row]]:
    """Return the rows of a page as objects with their relations, and the values of the extra columns.

    A hook sees the columns under their own names, with the values that are stored; they are renamed and cast after it.
    """
    asked = page.fields
    if "after_read" in target.hooks:
        page = replace(page, fields=tuple(dict.fromkeys(item.stored for item in asked)))
    branches = (*branches_of(target.resource, page.tree, INCLUDE_LIMIT), *page.branches)
    local = local_columns(branches)
    rows = _fetch(session, target, page, [*page.extra, *local])
    width = len(page.fields)
    objects = Serializer(page.fields).objects(rows)
    extras = [row[width : width + len(page.extra)] for row in rows]
    if branches and rows:
        start = width + len(page.extra)
        values = [dict(zip(local, row[start:], strict=False)) for row in rows]
        parents = list(zip(objects, values, strict=True))
        size = None if page.max_rows is None else AnswerSize(page.max_rows)
        attach(session, target.ownership, branches, parents, size)
    replaced = target.call("after_read", session, objects)
    found = list(replaced) if is_items(replaced) else objects
    if tuple(page.fields) != tuple(asked):
        found = [_as_asked(item, asked) if is_dict(item) else item for item in found]
    return found, extras


def _as_asked(item: dict[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """What a hook left of an object, by the names and in the forms that were asked for; what it added stays."""
    found: dict[str, Any] = {}
    for wanted in fields:
        if wanted.stored.name in item:
            value = item[wanted.stored.name]
            found[wanted.name] = value if value is None or wanted.shown is None else wanted.shown(value)
    own = {wanted.stored.name for wanted in fields}
    return found | {name: value for name, value in item.items() if name not in own}


def read_object(session: Session, target: Target, key: Sequence[Any], page: Page) -> tuple[dict[str, Any], Row]:
    """Return one row as an object with its relations, and its extra values; or raise a 404 problem."""
    page.where = [*key_criteria(target.resource, key), *page.where]
    objects, extras = read_objects(session, target, page)
    if not extras:
        raise not_found(target.resource)
    return objects[0], extras[0]


def count_rows(session: Session, target: Target, where: Sequence[sa.ColumnElement[bool]]) -> int:
    """Return how many rows meet the criteria."""
    statement = sa.select(sa.func.count()).select_from(target.resource.table).where(*target.visible, *where)
    return int(session.execute(statement).scalar_one())


def estimate_rows(session: Session, target: Target, where: Sequence[sa.ColumnElement[bool]]) -> int:
    """Return about how many rows meet the criteria: the planner's figure on PostgreSQL, else the exact count."""
    table = target.resource.table
    criteria = (*target.visible, *where)
    if dialect_of(session).name == "postgresql" and not criteria and is_table(table):
        name = dialect_of(session).identifier_preparer.format_table(table)
        reltuples: sa.ColumnElement[float] = sa.literal_column("reltuples", sa.Float())
        statement = sa.select(reltuples).select_from(sa.text("pg_class"))
        found = session.execute(statement.where(sa.text("oid = to_regclass(:name)")), {"name": name}).scalar()
        if found is not None and found >= 0:
            return int(found)
    return count_rows(session, target, where)


def _fetch(session: Session, target: Target, page: Page, extra: Sequence[sa.ColumnElement[Any]]) -> list[Row]:
    found: list[Row] = []
    for number, segment in enumerate(page.segments):
        left = None if page.limit is None else page.limit - len(found)
        if left == 0:
            break
        statement = _statement(target, page, segment, extra).limit(left)
        found += fetch(session, statement.offset(page.offset) if page.offset and not number else statement, page.fields)
    return found


def _statement(target: Target, page: Page, segment: Segment, extra: Sequence[sa.ColumnElement[Any]]) -> sa.Select[Any]:
    columns = [item.column for item in page.fields]
    labelled = [column.label(f"e{number}") for number, column in enumerate(extra)]
    statement = sa.select(*columns, *labelled).select_from(target.resource.table)
    statement = statement.where(*target.visible, *page.where, *segment.criteria)
    return statement.order_by(*segment.order_by) if segment.order_by else statement


__all__ += ["INCLUDE_LIMIT", "read_object", "read_planned"]
