"""Change or delete all rows that a filter finds, up to a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from ...web.problems import Problem, ProblemError
from ..resource import Resource
from .references import check_references
from .rows import Target, dialect_of, key_criteria
from .write import (
    Values,
    affected,
    columns_of,
    delete,
    deletes_entities,
    keep_owner,
    needs_unit_of_work,
    not_found,
    now,
    prepare_session,
    update,
)

__all__ = ["TooManyRowsError", "among_keys", "bulk_delete", "bulk_update", "matching_keys"]

_LISTED = 1000
Criteria = Sequence[sa.ColumnElement[bool]]


class TooManyRowsError(ProblemError):
    """A filter finds more rows than a change may touch."""


def matching_keys(session: Session, target: Target, criteria: Criteria, max_affected: int) -> list[tuple[Any, ...]]:
    """Lock the rows that meet the criteria and return their keys; more than ``max_affected`` is a 422."""
    prepare_session(session)
    return _keys(session, target, criteria, max_affected)


def among_keys(session: Session, resource: Resource, keys: Sequence[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    """Return the criterion of the rows with these keys; on PostgreSQL many are one array for each column of the key.

    Its drivers send no more than 32,767 or 65,535 parameters.
    """
    columns = [item.column for item in resource.key]
    there = columns[0] if len(columns) == 1 else sa.tuple_(*columns)
    if len(keys) > _LISTED and dialect_of(session).name == "postgresql":
        arrays = [
            sa.bindparam(None, list(values), type_=postgresql.ARRAY(column.type), unique=True)
            for column, values in zip(columns, zip(*keys, strict=True), strict=True)
        ]
        wanted = (
            sa.func.unnest(*arrays).table_valued(*(f"key_{number}" for number in range(len(columns)))).render_derived()
        )
        return there.in_(sa.select(*wanted.c))
    return there.in_(keys if len(columns) > 1 else [key[0] for key in keys])


def bulk_update(session: Session, target: Target, criteria: Criteria, values: Values, max_affected: int) -> int:
    """Set the same values on every row that meets the criteria; return how many there were.

    More than ``max_affected`` is a 422 and changes nothing.
    """
    prepare_session(session)
    resource = target.resource
    keep_owner(target, values)
    check_references(session, target, [values])
    if target.hooks.around("update") or needs_unit_of_work(session, target, "update", [values]):
        keys = _keys(session, target, criteria, max_affected)
        for key in keys:
            update(session, target, key, dict(values))
        return len(keys)
    _refuse_many(session, target, criteria, max_affected)
    if not values:
        return len(_keys(session, target, criteria, max_affected))
    changed = None if target.ownership.is_plain else _keys(session, target, criteria, max_affected)
    table: Any = resource.table
    statement = sa.update(table).where(_where(session, target, criteria)).values(columns_of(resource, values))
    number = _bounded(affected(session, statement), max_affected)
    if changed and len(_keys(session, target, [among_keys(session, resource, changed)], max_affected)) < len(changed):
        raise not_found(resource)  # a row would leave those of the caller
    return number


def bulk_delete(session: Session, target: Target, criteria: Criteria, max_affected: int) -> int:
    """Delete every row that meets the criteria (or mark it as deleted); return how many there were."""
    prepare_session(session)
    resource = target.resource
    if target.hooks.around("delete") or deletes_entities(session, target):
        keys = _keys(session, target, criteria, max_affected)
        for key in keys:
            if _keys(session, target, key_criteria(resource, key), 1):  # else it went with another one, by a cascade
                delete(session, target, key)
        return len(keys)
    _refuse_many(session, target, criteria, max_affected)
    table: Any = resource.table
    where = _where(session, target, criteria)
    statement: Any = sa.delete(table).where(where)
    if resource.deleted is not None:
        column: Any = resource.deleted.column
        statement = sa.update(table).where(where).values({column: now(resource.deleted)})
    return _bounded(affected(session, statement), max_affected)


def _where(session: Session, target: Target, criteria: Criteria) -> sa.ColumnElement[bool]:
    """The criteria; MariaDB refuses those that read the table which is changed, so they go into a derived table."""
    resource = target.resource
    combined = sa.and_(*target.visible, *criteria)
    if dialect_of(session).name not in ("mysql", "mariadb") or not _has_subquery(combined):
        return combined
    inner = sa.select(*(item.column for item in resource.key)).select_from(resource.table).where(combined).subquery()
    chosen = sa.select(*inner.c)
    columns = [item.column for item in resource.key]
    return (columns[0] if len(columns) == 1 else sa.tuple_(*columns)).in_(chosen)


def _has_subquery(criterion: sa.ColumnElement[bool]) -> bool:
    return any(isinstance(element, sa.Select) for element in sa.sql.visitors.iterate(criterion))


def _keys(session: Session, target: Target, criteria: Criteria, max_affected: int) -> list[tuple[Any, ...]]:
    resource = target.resource
    columns = [item.column for item in resource.key]
    statement = sa.select(*columns).select_from(resource.table).where(*target.visible, *criteria)
    rows = session.execute(statement.order_by(*columns).limit(max_affected + 1).with_for_update())
    keys = [tuple(row) for row in rows]
    _bounded(len(keys), max_affected)
    return keys


def _refuse_many(session: Session, target: Target, criteria: Criteria, max_affected: int) -> None:
    found = sa.select(sa.literal(1)).select_from(target.resource.table).where(*target.visible, *criteria)
    limited = found.limit(max_affected + 1).subquery()
    _bounded(int(session.execute(sa.select(sa.func.count()).select_from(limited)).scalar_one()), max_affected)


def _bounded(number: int, max_affected: int) -> int:
    if number > max_affected:
        detail = f"The filter finds more than {max_affected} rows. Narrow it; nothing was changed."
        raise TooManyRowsError(Problem(status=422, code="validation_error", detail=detail))
    return number
