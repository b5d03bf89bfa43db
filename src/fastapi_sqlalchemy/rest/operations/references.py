"""Foreign keys of a change that point at rows with owners: another owner's row is as absent as none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ...web.problems import Problem, ProblemError
from ..narrowing import is_table
from ..resource import Resource, key_of_table
from .rows import Target

__all__ = ["Reference", "check_references", "references_to"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: the fields that hold it, and the columns of the resource that it points at."""

    fields: tuple[str, ...]
    target: Resource
    columns: tuple[sa.ColumnElement[Any], ...]


def references_to(resource: Resource, owned: Mapping[Any, Resource]) -> tuple[Reference, ...]:
    """Return the foreign keys of a resource that point at one of ``owned``: resources by the key of their table."""
    found: list[Reference] = []
    for table in _tables(resource):
        for constraint in table.foreign_key_constraints:
            target = owned.get(key_of_table(constraint.referred_table))
            fields = [resource.field_of(element.parent) for element in constraint.elements]
            names = tuple(item.name for item in fields if item is not None)
            if target is not None and len(names) == len(fields):
                found.append(
                    Reference(names, target, tuple(_column(target, element) for element in constraint.elements))
                )
    return tuple(found)


def _column(target: Resource, element: sa.ForeignKey) -> sa.ColumnElement[Any]:
    """The column that a foreign key points at, on the `Table` that the target has."""
    column = element.column
    found = (one for item in target.fields.values() for one in item.columns if isinstance(one, sa.Column))
    same = (one for one in found if one.name == column.name and key_of_table(one.table) == key_of_table(column.table))
    return next(same, column)


def check_references(session: Session, target: Target, rows: Iterable[Mapping[str, Any]]) -> None:
    """Raise the problem of a foreign key that fails where rows point at what the caller does not see."""
    if not target.references:
        return
    given = list(rows)
    for reference in target.references:
        values = {tuple(row.get(name) for name in reference.fields) for row in given}
        wanted = [value for value in values if None not in value]
        # A collation may take two of them for one.
        together = len({str(value).casefold() for value in wanted}) == len(wanted)
        for group in [wanted] if together else [[value] for value in wanted]:
            _check(session, target, reference, group)


def _check(session: Session, target: Target, reference: Reference, wanted: list[tuple[Any, ...]]) -> None:
    if not wanted:
        return
    source = reference.target.source()
    visible = sa.select(sa.func.count()).select_from(source.selectable).where(*target.ownership.criteria(source))
    if session.execute(visible.where(_one_of(reference.columns, wanted))).scalar_one() < len(wanted):
        detail = "A row that this one refers to does not exist."
        fields = list(reference.fields)
        raise ProblemError(Problem(status=409, code="foreign_key_violation", detail=detail, fields=fields))


def _one_of(columns: tuple[sa.ColumnElement[Any], ...], values: list[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    if len(columns) == 1:
        return columns[0].in_([value[0] for value in values])
    return sa.or_(
        *(sa.and_(*(column == item for column, item in zip(columns, value, strict=True))) for value in values)
    )


def _tables(resource: Resource) -> Iterable[sa.Table]:
    """The tables that the resource is stored in: two or more of a joined inheritance."""
    columns = (column for item in resource.fields.values() for column in item.columns)
    return dict.fromkeys(column.table for column in columns if isinstance(column, sa.Column) and is_table(column.table))
