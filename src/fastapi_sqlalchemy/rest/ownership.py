"""Ownership: criteria that a router's ``scope_query`` returns, on whatever FROM element a resource is read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.util import ClauseAdapter

from .narrowing import is_criterion, is_iterable, is_table
from .resource import Resource, Source, key_of_table

__all__ = ["Ownership", "as_criteria", "moved_to"]

Criterion = sa.ColumnElement[bool]


class Ownership:
    """What the caller may see: criteria by the table that they are about.

    ``own`` are those of the routed resource; ``by_table`` those of resources reached through relations.
    """

    def __init__(self, resource: Resource, own: Iterable[Criterion] = ()) -> None:
        self.resource = resource
        self.by_table: dict[sa.FromClause, tuple[Criterion, ...]] = {}
        mine: list[Criterion] = []
        for criterion in own:
            tables = _tables(criterion)
            if not tables or resource.table in tables or _within(resource.table, tables):
                mine.append(criterion)
            else:
                for table in tables:
                    self.by_table[table] = (*self.by_table.get(table, ()), criterion)
        self.own = tuple(ClauseAdapter(resource.table).traverse(criterion) for criterion in mine)

    def add(self, resource: Resource, criteria: Iterable[Criterion]) -> None:
        """Note the criteria of a resource that is reached through a relation."""
        adapted = tuple(ClauseAdapter(resource.table).traverse(criterion) for criterion in criteria)
        self.by_table[resource.table] = (*self.by_table.get(resource.table, ()), *adapted)

    def criteria(self, source: Source) -> tuple[Criterion, ...]:
        """Return what holds for a visible row of ``source``: its own criteria and those of its owner."""
        table = source.resource.table
        found = self.by_table.get(table, ())
        if table is self.resource.table:
            found = (*self.own, *found)
        return (*source.criteria, *(source.adapt(criterion) for criterion in found))

    @property
    def is_open(self) -> bool:
        """Whether nobody owns anything: what is visible does not depend on the caller."""
        return not self.own and not self.by_table

    def presets(self) -> dict[str, Any]:
        """Return the values that a new row takes from the criteria, by field name: those that say column = value."""
        found: dict[str, Any] = {}
        for criterion in _conjuncts(self.own):
            pair = _column_and_value(criterion)
            field = None if pair is None else self.resource.field_of(pair[0])
            if pair is not None and field is not None:
                found[field.name] = pair[1]
        return found

    @property
    def is_plain(self) -> bool:
        """Whether the presets alone make a new row visible to its owner."""
        return all(
            (pair := _column_and_value(item)) is not None and self.resource.field_of(pair[0]) is not None
            for item in _conjuncts(self.own)
        )


def as_criteria(value: Any) -> tuple[Criterion, ...]:
    """Return what a ``scope_query`` gave as criteria; None is none, a mapping is column = value."""
    if value is None:
        return ()
    if is_criterion(value):
        return (value,)
    if isinstance(value, bool):
        return (sa.true() if value else sa.false(),)
    if is_iterable(value) and not isinstance(value, (str, bytes, Mapping)):
        return tuple(criterion for item in value for criterion in as_criteria(item))
    raise TypeError("scope_query must return a SQLAlchemy criterion, a list of them, or None.")


def moved_to(resource: Resource, criteria: Iterable[Criterion]) -> tuple[Criterion, ...]:
    """Return criteria about a table on the `Table` that a resource has for it, which may be another of the same name.

    Criteria that are about other tables alone say nothing of a row: then there is none for the caller.
    """
    tables = {key_of_table(table): table for table in _parts(resource.table)}

    def replaced(element: Any, **_: Any) -> Any:
        named = isinstance(element, sa.Column)
        table: Any = element.table if named else element
        here = tables.get(key_of_table(table)) if is_table(table) else None
        if here is None or _plain(table) is here:
            return None
        return _column_of(here, str(element.name)) if named else here

    found = tuple(visitors.replacement_traverse(criterion, {}, replaced) for criterion in criteria)
    about = [_tables(criterion) for criterion in found]
    if any(about) and not any(not named or any(table in named for table in tables.values()) for named in about):
        return (*found, sa.false())
    return found


def _parts(table: sa.FromClause) -> list[sa.Table]:
    """The tables of a resource: two or more of a joined inheritance."""
    if isinstance(table, sa.Join):
        return [*_parts(table.left), *_parts(table.right)]
    return [table] if is_table(table) else []


def _plain(table: Any) -> Any:
    return table._deannotate() if hasattr(table, "_deannotate") else table


def _column_of(table: sa.Table, name: str) -> sa.Column[Any]:
    """The column of that name; a model may have it by another key."""
    found = next((item for item in table.columns if item.name == name), None)
    if found is None:
        raise LookupError(f"The table {table.name} has no column {name}, which its scope_query asks for.")
    return found


def _tables(criterion: Criterion) -> set[sa.FromClause]:
    """The tables whose columns a criterion names, those inside of subqueries left out."""
    found: set[sa.FromClause] = set()
    stack: list[Any] = [criterion]
    while stack:
        element = stack.pop()
        if isinstance(element, (sa.Select, sa.ScalarSelect, sa.Exists, sa.Subquery)):
            continue
        if isinstance(element, sa.Column):
            found.add(_plain(element.table))
            continue
        stack.extend(element.get_children())
    return found


def _within(table: sa.FromClause, tables: set[sa.FromClause]) -> bool:
    """Whether a joined-inheritance FROM holds one of the tables."""
    return isinstance(table, sa.Join) and any(item in tables for item in (table.left, table.right))


def _conjuncts(criteria: Iterable[Criterion]) -> Iterable[Criterion]:
    for criterion in criteria:
        if isinstance(criterion, sa.BooleanClauseList) and criterion.operator is operators.and_:
            yield from _conjuncts(criterion.clauses)
        else:
            yield criterion


def _column_and_value(criterion: Any) -> tuple[sa.Column[Any], Any] | None:
    if not isinstance(criterion, sa.BinaryExpression) or criterion.operator is not operators.eq:
        return None
    for column, value in ((criterion.left, criterion.right), (criterion.right, criterion.left)):
        if isinstance(column, sa.Column) and isinstance(value, sa.BindParameter):
            return column, value.effective_value
    return None
