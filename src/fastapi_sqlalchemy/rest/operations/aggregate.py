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

    @property
    def column(self) -> sa.ColumnElement[Any]:
        """The SQL of the figure."""
        if self.field is None:
            return sa.func.count().label(self.name)
        column = self.field.column
        if self.function == "avg":
            return sa.cast(sa.func.avg(column), sa.Double).label(self.name)
        figure: sa.ColumnElement[Any] = getattr(sa.func, self.function)(column)
        return figure.label(self.name)


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
    order = Ordering(resource, [SortKey(field) for field in groups], dialect_of(session))
    statement = (
        sa.select(*columns, *(figure.column for figure in figures))
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
    """One form on every database: MariaDB sums integers to decimals."""
    if value is None or kind not in _NUMBERS:
        return value
    if kind is int and isinstance(value, Decimal):
        return int(value)
    return plain(value) if isinstance(value, Decimal) else value
