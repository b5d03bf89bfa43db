"""Counts, sums, averages, minima and maxima of groups."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..fields import Field
from ..query import Ordering, SortKey
from ..resource import Resource
from ..serialize import plain
from .rows import Target, dialect_of

__all__ = ["FUNCTIONS", "Aggregate", "aggregate", "can_aggregate"]

FUNCTIONS = ("count", "sum", "avg", "min", "max")
_NUMBERS = (int, float, Decimal)
_ORDERED = (*_NUMBERS, str, dt.date, dt.datetime, dt.time)


@dataclass(frozen=True)
class Aggregate:
    """One figure: a function of a field, ``None`` for ``count=*``."""

    function: str
    field: Field | None

    @property
    def name(self) -> str:
        """The name of the figure in the answer: ``count``, ``sum_price``."""
        return self.function if self.field is None else f"{self.function}_{self.field.name}"

    def column(self, dialect: str) -> sa.ColumnElement[Any]:
        """The SQL of the figure for a database of this name."""
        if self.field is None:
            return sa.func.count().label(self.name)
        column = self.field.column
        if self.function == "avg":
            return sa.cast(sa.func.avg(column), sa.Double).label(self.name)
        if self.function == "sum" and self.field.python_type is int and dialect == "sqlite":
            return _halves(column).label(self.name)
        figure: sa.ColumnElement[Any] = getattr(sa.func, self.function)(column)
        return figure.label(self.name)


_HALF = 2**32


def _halves(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The sums of the high and of the low halves as text, since SQLite's sum of integers ends past 64 bits.

    What a raw statement has stored there, and is no integer, counts in the low ones as it would in a sum.
    """
    is_integer = sa.func.typeof(column) == "integer"
    plain_column = sa.type_coerce(column, sa.Integer)
    high = sa.case((is_integer, plain_column.op("/")(_HALF)), else_=0)
    low = sa.case((is_integer, plain_column.op("%")(_HALF)), else_=plain_column)
    sums = [sa.cast(sa.func.sum(half, type_=sa.Integer), sa.String) for half in (high, low)]
    return sums[0] + " " + sums[1]


def can_aggregate(function: str, field: Field) -> bool:
    """Whether a function makes sense for the type of a field."""
    if function == "count":
        return True
    kinds = _NUMBERS if function in ("sum", "avg") else _ORDERED
    return field.python_type in kinds and field.choices is None


def aggregate(
    session: Session,
    target: Target,
    groups: Sequence[Field],
    figures: Sequence[Aggregate],
    criteria: Sequence[sa.ColumnElement[bool]],
    limit: int,
) -> list[dict[str, Any]]:
    """Return one object per group, ordered by the group as a list is, at most ``limit``."""
    resource: Resource = target.resource
    columns = [field.column for field in groups]
    dialect = dialect_of(session)
    order = Ordering(resource, [SortKey(field) for field in groups], dialect)
    statement = (
        sa.select(*columns, *(figure.column(dialect.name) for figure in figures))
        .select_from(resource.table)
        .where(*target.visible, *criteria)
        .group_by(*columns)
        .order_by(*order.order_by(count=len(groups)))
        .limit(limit)
    )
    names = [*(field.name for field in groups), *(figure.name for figure in figures)]
    exact = [*(field.python_type for field in groups), *(_kind(figure) for figure in figures)]
    return [
        {name: _as(kind, value) for name, kind, value in zip(names, exact, row, strict=True)}
        for row in session.execute(statement)
    ]


def _kind(figure: Aggregate) -> type[Any]:
    if figure.function == "count" or figure.field is None:
        return int
    return float if figure.function == "avg" else figure.field.python_type


def _as(kind: type[Any], value: Any) -> Any:
    """One form on every database: MariaDB sums integers to decimals, and SQLite their halves (`_halves`)."""
    if value is None or kind not in _NUMBERS:
        return value
    if kind is int and isinstance(value, Decimal):
        return int(value)
    if kind is int and isinstance(value, str):
        high, low = value.split(" ")
        return int(high) * _HALF + (float(low) if "." in low or "e" in low else int(low))
    return plain(value) if isinstance(value, Decimal) else value
