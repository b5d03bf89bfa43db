"""Relations of a resource: from the mapper's relationships, or from the foreign keys of a reflected database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm
from sqlalchemy.sql import operators

from .narrowing import is_table

if TYPE_CHECKING:
    from .resource import Resource, ResourceRegistry

__all__ = ["Pair", "Relation", "mapper_relations", "table_relations"]

Pair = tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]


@dataclass(eq=False)
class Relation:
    """A way from one resource to another.

    Without ``secondary``, ``pairs`` are (column here, column of the target). With it, ``pairs`` are (column here,
    column of the secondary table) and ``secondary_pairs`` are (column of the target, column of the secondary table).
    """

    name: str
    entity: Any
    registry: ResourceRegistry
    pairs: tuple[Pair, ...]
    to_many: bool
    nullable: bool = True
    secondary: sa.FromClause | None = None
    secondary_pairs: tuple[Pair, ...] = ()
    order_by: tuple[sa.ColumnElement[Any], ...] = ()
    doc: str | None = None

    @property
    def target(self) -> Resource:
        """The resource this leads to, with its own secrecy."""
        return self.registry.related(self.entity)

    @property
    def between(self) -> Resource | None:
        """The table between of many to many; a link that the caller may not see leads nowhere."""
        return self.registry.resource(self.secondary) if is_table(self.secondary) else None


def mapper_relations(registry: ResourceRegistry, mapper: orm.Mapper[Any]) -> Iterator[Relation]:
    """Yield the relations of a mapped class.

    A relationship whose join is more than equal columns is left out: following it without its extra condition would
    show rows that it does not have.
    """
    for item in mapper.relationships:
        if not _plain(item.primaryjoin) or (item.secondaryjoin is not None and not _plain(item.secondaryjoin)):
            continue
        secondary = item.secondary
        if secondary is None:
            pairs = tuple(_pairs(item.local_remote_pairs))
            secondary_pairs: tuple[Pair, ...] = ()
        else:
            pairs = tuple(_pairs(item.synchronize_pairs))
            secondary_pairs = tuple(_pairs(item.secondary_synchronize_pairs))
        many = item.uselist is not False
        order_by = tuple(item.order_by) if item.order_by else ()
        yield Relation(
            name=str(item.key),
            entity=item.mapper.class_,
            registry=registry,
            pairs=pairs,
            to_many=many,
            nullable=many or item.direction is not orm.RelationshipDirection.MANYTOONE or _any_nullable(pairs),
            secondary=secondary,
            secondary_pairs=secondary_pairs,
            order_by=order_by,
            doc=item.doc,
        )


def table_relations(registry: ResourceRegistry, table: sa.Table) -> Iterator[Relation]:
    """Yield the relations of a table: its foreign keys, those that point at it, and those through association tables.

    A foreign key is named after its column without ``_id`` (or its target table), the way back after the table that
    holds it.
    """
    taken = {column.name for column in table.columns}

    def name(*candidates: str) -> str:
        for candidate in map(str, candidates):
            if candidate and candidate not in taken:
                taken.add(candidate)
                return candidate
        number = 2
        while f"{candidates[-1]}_{number}" in taken:
            number += 1
        taken.add(f"{candidates[-1]}_{number}")
        return f"{candidates[-1]}_{number}"

    for constraint in _foreign_keys(table):
        target = constraint.referred_table
        columns = [element.parent.name for element in constraint.elements]
        stem = _stem(columns[0]) if len(columns) == 1 else ""
        pairs = tuple((element.parent, element.column) for element in constraint.elements)
        yield Relation(
            name=name(stem, target.name, f"{target.name}_by_{'_'.join(columns)}"),
            entity=target,
            registry=registry,
            pairs=pairs,
            to_many=False,
            nullable=_any_nullable(pairs),
        )
    for other in sorted(table.metadata.tables.values(), key=lambda item: (item.schema or "", item.name)):
        for constraint in _foreign_keys(other):
            if constraint.referred_table is not table:
                continue
            columns = [element.parent.name for element in constraint.elements]
            back = tuple((element.column, element.parent) for element in constraint.elements)
            yield Relation(
                name=name(other.name, f"{other.name}_by_{'_'.join(columns)}"),
                entity=other,
                registry=registry,
                pairs=back,
                to_many=True,
            )
            far = _other_side(other, constraint)
            if far is not None and registry.reachable(other):
                yield Relation(
                    name=name(far.referred_table.name, f"{far.referred_table.name}_via_{other.name}"),
                    entity=far.referred_table,
                    registry=registry,
                    pairs=back,
                    to_many=True,
                    secondary=other,
                    secondary_pairs=tuple((element.column, element.parent) for element in far.elements),
                )


def _foreign_keys(table: sa.Table) -> list[sa.ForeignKeyConstraint]:
    """The foreign keys of a table whose target was reflected too, in the order of their columns."""
    order = {column.name: number for number, column in enumerate(table.columns)}
    found: list[sa.ForeignKeyConstraint] = []
    for constraint in table.foreign_key_constraints:
        try:
            for element in constraint.elements:
                _ = element.column
        except sa_exc.NoReferenceError:
            continue
        found.append(constraint)
    return sorted(found, key=lambda item: [order[element.parent.name] for element in item.elements])


def _other_side(table: sa.Table, constraint: sa.ForeignKeyConstraint) -> sa.ForeignKeyConstraint | None:
    """The other foreign key of a pure association table: two foreign keys that hold all of its key."""
    constraints = _foreign_keys(table)
    if len(constraints) != 2:
        return None
    held = {element.parent.name for item in constraints for element in item.elements}
    if {column.name for column in table.columns} != held:
        return None
    return constraints[1] if constraints[0] is constraint else constraints[0]


def _stem(column: str) -> str:
    for suffix in ("_id", "_ID", "_Id", "Id", "ID", "_fk"):
        if column.endswith(suffix) and len(column) > len(suffix):
            return column.removesuffix(suffix)
    return ""


def _pairs(pairs: Sequence[tuple[Any, Any]] | None) -> Iterator[Pair]:
    yield from pairs or ()


def _any_nullable(pairs: tuple[Pair, ...]) -> bool:
    return any(bool(getattr(local, "nullable", True)) for local, _ in pairs)


def _plain(condition: sa.ColumnElement[Any]) -> bool:
    """Whether a join condition is equal columns and nothing else."""
    if isinstance(condition, sa.BooleanClauseList):
        return condition.operator is operators.and_ and all(_plain(clause) for clause in condition.clauses)
    return (
        isinstance(condition, sa.BinaryExpression)
        and condition.operator is operators.eq
        and isinstance(condition.left, sa.Column)
        and isinstance(condition.right, sa.Column)
    )
