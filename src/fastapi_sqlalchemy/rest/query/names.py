"""Names of a query string resolved to columns, through relations, and to operators.

Secret columns do not exist here: asking for one gives the error of a name that was never there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import Field
from ..relations import Relation
from ..resource import Resource
from .errors import listed, shown
from .kinds import OPERATORS, operators_of
from .tree import Node, Related

__all__ = ["RESERVED", "Target", "UnknownNameError", "allowed_names", "resolve"]

RESERVED = ("q", "filter", "sort", "limit", "offset", "cursor", "fields", "include", "count")
"""Names that are not columns; a column of such a name is reached as ``limit.eq=``."""


class UnknownNameError(LookupError):
    """A name that leads nowhere; the message says what there is."""

    def __init__(self, msg: str, kind: str = "unknown_parameter") -> None:
        super().__init__(msg)
        self.msg = msg
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Target:
    """Where a name leads: over relations to a column, or to a relation itself (``field`` is None)."""

    relations: tuple[Relation, ...]
    resource: Resource
    field: Field | None
    operator: str

    def wrap(self, node: Node | None) -> Node:
        """Return the node seen from the start of the path. A path to a relation may have no node."""
        for relation in reversed(self.relations):
            node = Related(relation, node)
        if node is None:
            raise ValueError("A path without a relation needs a node.")
        return node


def resolve(resource: Resource, name: str, depth: int) -> Target:
    """Return where ``name`` leads: ``column``, ``column__op``, ``column.op``, any of them after ``relation.``.

    A column whose own name holds dots or underscores wins over a reading with an operator. ``depth`` bounds the
    relations in one name. Raises :class:`UnknownNameError`.
    """
    found = _path(resource, name, (), depth)
    if found is not None:
        return Target(*found, operator="eq")
    known: tuple[str, str, Field | None] | None = None
    for separator in ("__", "."):
        stem, _, operator = name.rpartition(separator)
        found = _path(resource, stem, (), depth) if stem else None
        if found is None:
            continue
        if operator in _operators(found[2]):
            return Target(*found, operator=operator)
        if known is None and (separator == "__" or operator in OPERATORS):
            known = stem, operator, found[2]
    if known is None:
        raise UnknownNameError(f"unknown name {shown(name)}; there is: {allowed_names(resource)}")
    stem, operator, field = known
    what = "is not for this column" if operator in OPERATORS else "is unknown"
    msg = f"operator {shown(operator)} {what}; {shown(stem)} has: {listed(_operators(field))}"
    raise UnknownNameError(msg, "unknown_operator")


def _operators(field: Field | None) -> tuple[str, ...]:
    """The operators of a column, or of a relation (None)."""
    return ("isnull",) if field is None else operators_of(field)


def _path(
    resource: Resource, name: str, before: tuple[Relation, ...], depth: int
) -> tuple[tuple[Relation, ...], Resource, Field | None] | None:
    field = resource.filterable.get(name)
    if field is not None:
        return before, resource, field
    if not before and "." not in name and name not in resource.relations:
        return None
    relation = resource.relations.get(name)
    if relation is not None:
        _refuse_deep(name, depth)
        return (*before, relation), relation.target, None
    for stem in _prefixes(name):
        relation = resource.relations.get(stem)
        if relation is None:
            continue
        _refuse_deep(name, depth)
        found = _path(relation.target, name[len(stem) + 1 :], (*before, relation), depth - 1)
        if found is not None:
            return found
    return None


def _refuse_deep(name: str, depth: int) -> None:
    if depth < 1:
        raise UnknownNameError(f"{shown(name)} is past the last relation that a name may go over", "too_deep")


def _prefixes(name: str) -> list[str]:
    """What comes before each dot, longest first; a name holds at most a few dots."""
    cuts = [index for index, char in enumerate(name) if char == "."]
    return [name[:index] for index in reversed(cuts[:16])]


def allowed_names(resource: Resource, *, reserved: tuple[str, ...] = ()) -> str:
    """Return the names that a filter may use, for a message."""
    text = f"columns {listed(resource.filterable)}"
    if resource.relations:
        text += f"; relations {listed(resource.relations)}"
    if reserved:
        text += f"; and {listed(reserved)}"
    return text
