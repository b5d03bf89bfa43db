"""Which relation an embedding means: by the table that it leads to, by its foreign key, or by its own name."""

from __future__ import annotations

import sqlalchemy as sa

from ..narrowing import is_table
from ..query.errors import listed, shown
from ..relations import Relation
from ..resource import Resource
from .errors import failure
from .tables import Names

__all__ = ["find_relation"]


def find_relation(resource: Resource, names: Names, target: str, hint: str | None) -> Relation:
    """Return the relation that ``target`` and its ``hint`` mean.

    ``target`` is the name of the table that it leads to; where there is none, the name of a foreign key, of its one
    column or of the relation. A ``hint`` chooses among several: by the foreign key, one of its columns, the table
    between, or the relation. Raises the problem of none (PGRST200) or of several (PGRST201).
    """
    there = list(_distinct(resource))
    found = [item for item in there if names.of(item.target) == target]
    if hint is not None:
        found = [item for item in found if hint in _hints(item)]
        if len(found) > 1:  # a table that refers to itself: the column leads to the row that it names
            found = [item for item in found if not item.to_many] or found
    elif not found:
        found = [item for item in there if target == item.name or (not item.to_many and target in _hints(item))]
    own = names.of(resource) or resource.name
    if not found:
        raise failure(
            400,
            "PGRST200",
            f"Could not find a relationship between '{own}' and '{shown(target)}'",
            details=None if hint is None else f"The hint was {shown(hint)}.",
            hint=f"There is: {listed(dict.fromkeys(names.of(item.target) or item.name for item in there))}.",
        )
    if len(found) > 1:
        ways = [f"{target}!{_best_hint(item, there)}" for item in found]
        raise failure(
            300,
            "PGRST201",
            f"Could not embed because more than one relationship was found for '{own}' and '{shown(target)}'",
            hint=f"Name one of them: {listed(ways)}.",
        )
    return found[0]


def _distinct(resource: Resource) -> list[Relation]:
    """The relations of a resource; of two that a model has over the same columns, the first."""
    found: dict[object, Relation] = {}
    for item in resource.relations.values():
        found.setdefault((item.pairs, item.secondary_pairs, item.secondary, item.entity), item)
    return list(found.values())


def _hints(relation: Relation) -> set[str]:
    found = {relation.name}
    if relation.secondary is not None:
        table = relation.secondary
        return found | {str(getattr(table, "name", ""))}
    if len(relation.pairs) == 1:
        here, there = relation.pairs[0]
        found |= {
            column.name for column in ((there,) if relation.to_many else (here,)) if isinstance(column, sa.Column)
        }
    return found | _constraints(relation)


def _constraints(relation: Relation) -> set[str]:
    """The names of the foreign key: its own, and the one that PostgreSQL gives."""
    columns = [there if relation.to_many else here for here, there in relation.pairs]
    others = [here if relation.to_many else there for here, there in relation.pairs]
    table = getattr(columns[0], "table", None) if columns else None
    if not is_table(table):
        return set()
    names = [column.name for column in columns if isinstance(column, sa.Column)]
    found = {f"{table.name}_{'_'.join(names)}_fkey"}
    for constraint in table.foreign_key_constraints:
        own = [element.parent for element in constraint.elements]
        if constraint.name is not None and set(own) == set(columns) and _same(constraint, others):
            found.add(str(constraint.name))
    return found


def _same(constraint: sa.ForeignKeyConstraint, others: list[sa.ColumnElement[object]]) -> bool:
    return {element.column for element in constraint.elements} == set(others)


def _best_hint(relation: Relation, others: list[Relation]) -> str:
    """The shortest hint that means this relation alone."""
    taken: set[str] = set[str]().union(*(_hints(item) for item in others if item is not relation))
    own = sorted(_hints(relation) - taken, key=lambda name: (len(name), name))
    return own[0] if own else relation.name
