"""Conditions of a query as SQLAlchemy Core criteria; every value is a bound parameter.

A relation becomes EXISTS on an alias of its target, so that rows are neither repeated nor miscounted, and inside it
the target's own criteria hold: soft delete, and what the caller may see. Conditions in one object of a JSON filter
meet in one related row; separate parameters may be met by different ones. NOT is SQL's: a comparison with NULL is
unknown, its negation too, and unknown is no match; only ``isnull`` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from ..fields import Field
from ..relations import Relation
from ..resource import Resource, Source
from .expressions import Take, condition
from .kinds import is_searchable
from .operands import Family, Variant, family_of, operand_of, pattern_operand
from .patterns import Pattern
from .tree import And, Comparison, ListQuery, Node, Not, Or, Search

__all__ = ["Shape", "Visible", "build_filters", "compile_filters", "compile_nodes", "outline", "own_criteria"]

Criterion = sa.ColumnElement[bool]
Visible = Callable[[Source], Iterable[Criterion]]
"""Returns the criteria of the rows of a source that the caller may see."""


class _Condition(NamedTuple):
    field: Field
    operator: str
    variant: Variant


class _Search(NamedTuple):
    variant: Variant
    number: int


class _Junction(NamedTuple):
    word: str
    items: tuple[Shape, ...]


class _Related(NamedTuple):
    relation: Relation
    item: Shape | None


Shape: TypeAlias = "_Condition | _Search | _Junction | _Related"
"""A condition without its values: equal shapes have one SQL text."""


def own_criteria(source: Source) -> tuple[Criterion, ...]:
    """The criteria that a resource always has."""
    return source.criteria


def compile_filters(
    query: ListQuery,
    resource: Resource,
    dialect: sa.Dialect,
    visible: Visible = own_criteria,
    *,
    source: Source | None = None,
) -> list[Criterion]:
    """Return the criteria of the filters and of ``q``, to be joined by AND.

    ``visible`` is asked for the rows of each related table that may be seen (``Ownership.criteria``); those of
    ``resource`` itself are the caller's to add. ``source`` is the FROM element to filter, by default the resource's
    own table.
    """
    return compile_nodes(_nodes(query), resource, dialect, visible, source=source)


def compile_nodes(
    nodes: Iterable[Node],
    resource: Resource,
    dialect: sa.Dialect,
    visible: Visible = own_criteria,
    *,
    source: Source | None = None,
) -> list[Criterion]:
    """Return the criteria of conditions; see :func:`compile_filters`."""
    shapes, values = _outlines(nodes, dialect)
    following = iter(values)

    def take(sql_type: sa.types.TypeEngine[Any], *, expanding: bool = False) -> sa.BindParameter[Any]:
        return sa.bindparam(None, next(following), type_=sql_type, expanding=expanding, unique=True)

    return build_filters(shapes, source or resource.source(), family_of(dialect), take, visible)


def outline(query: ListQuery, dialect: sa.Dialect) -> tuple[tuple[Shape, ...], list[Any]]:
    """Return the shapes of the filters and of ``q``, and all their values in the order of the shapes."""
    return _outlines(_nodes(query), dialect)


def _nodes(query: ListQuery) -> tuple[Node, ...]:
    return query.filters if query.search is None else (*query.filters, Search(query.search))


def _outlines(nodes: Iterable[Node], dialect: sa.Dialect) -> tuple[tuple[Shape, ...], list[Any]]:
    values: list[Any] = []
    family = family_of(dialect)
    return tuple(_outline(node, dialect, family, values) for node in nodes), values


def _outline(node: Node, dialect: sa.Dialect, family: Family, values: list[Any]) -> Shape:
    if isinstance(node, Comparison):
        if node.operator == "between":
            low, high = node.value
            parts = (Comparison(node.field, "gte", low), Comparison(node.field, "lte", high))
            return _Junction("and", tuple(_outline(part, dialect, family, values) for part in parts))
        operand = operand_of(node.field, node.operator, node.value, dialect, family)
        values.extend(operand.values)
        return _Condition(node.field, node.operator, operand.variant)
    if isinstance(node, And):
        return _Junction("and", tuple(_outline(item, dialect, family, values) for item in node.items))
    if isinstance(node, Or):
        return _Junction("or", tuple(_outline(item, dialect, family, values) for item in node.items))
    if isinstance(node, Not):
        return _Junction("not", (_outline(node.item, dialect, family, values),))
    if isinstance(node, Search):
        operand = pattern_operand(Pattern.of("icontains", node.text), family)
        values.extend(operand.values)
        return _Search(operand.variant, len(operand.values))
    item = None if node.item is None else _outline(node.item, dialect, family, values)
    return _Related(node.relation, item)


def build_filters(
    shapes: Iterable[Shape], source: Source, family: Family, take: Take, visible: Visible = own_criteria
) -> list[Criterion]:
    """Return the criteria of shapes; ``take`` gives their parameters, in the order of their values."""
    builder = _Builder(family, take, visible)
    return [builder.build(shape, source) for shape in shapes]


class _Builder:
    def __init__(self, family: Family, take: Take, visible: Visible) -> None:
        self.family: Family = family
        self.take = take
        self.visible = visible

    def build(self, shape: Shape, source: Source) -> Criterion:
        if isinstance(shape, _Condition):
            column = source.column(shape.field)
            return condition(column, shape.field, shape.operator, shape.variant, self.take, self.family)
        if isinstance(shape, _Search):
            return self._search(shape, source)
        if isinstance(shape, _Related):
            return self._related(shape.relation, shape.item, source)
        items = [self.build(item, source) for item in shape.items]
        if shape.word == "not":
            return sa.not_(items[0])
        return sa.and_(sa.true(), *items) if shape.word == "and" else sa.or_(sa.false(), *items)

    def _related(self, relation: Relation, item: Shape | None, source: Source) -> Criterion:
        target = relation.target.aliased()
        froms: list[sa.FromClause] = [target.selectable]
        criteria: list[Criterion] = []
        if relation.secondary is None:
            joins: list[Criterion] = [source.column(here) == target.column(there) for here, there in relation.pairs]
        else:
            middle = relation.secondary.alias()
            froms.append(middle)
            joins = [source.column(here) == _moved(there, middle) for here, there in relation.pairs]
            joins += [target.column(far) == _moved(there, middle) for far, there in relation.secondary_pairs]
            if relation.between is not None:
                criteria += self.visible(Source(relation.between, middle))
        criteria += [*joins, *self.visible(target)]
        if item is not None:
            criteria.append(self.build(item, target))
        one: sa.ColumnElement[int] = sa.literal_column("1")
        found: sa.Select[Any] = sa.select(one).select_from(*froms).where(*criteria)
        return found.correlate_except(*froms).exists()

    def _search(self, shape: _Search, source: Source) -> Criterion:
        """One pattern in every column of text: its parameters are taken once and used in each."""
        taken = [self.take(sa.Text()) for _ in range(shape.number)]
        fields = [field for field in source.resource.fields.values() if is_searchable(field)]
        return sa.or_(
            *(
                condition(source.column(field), field, "icontains", shape.variant, _replay(taken), self.family)
                for field in fields
            )
        )


def _replay(taken: Iterable[sa.BindParameter[Any]]) -> Take:
    following = iter(taken)

    def take(sql_type: sa.types.TypeEngine[Any], *, expanding: bool = False) -> sa.BindParameter[Any]:
        return next(following)

    return take


def _moved(column: sa.ColumnElement[Any], alias: sa.FromClause) -> sa.ColumnElement[Any]:
    found = alias.corresponding_column(column)  # type: ignore[arg-type]
    if found is None:
        raise LookupError(f"{alias} has no column for {column}")
    return found
