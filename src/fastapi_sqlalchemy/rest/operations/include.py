"""Related rows of a page: one more query per relation, never one per row and never a join that multiplies rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..fields import Field
from ..ownership import Ownership
from ..query import Ordering, SortKey, compile_nodes
from ..query.tree import Node
from ..relations import Relation
from ..resource import Resource
from ..serialize import Serializer
from .answer_size import AnswerSize
from .matching import ASKED_AT_ONCE, equal, may_be_alike
from .rows import Row, dialect_of, fetch

__all__ = ["INCLUDE_LIMIT", "Branch", "Tree", "attach", "branches_of", "local_columns", "related_statement"]

Tree = Mapping[str, "Tree"]
"""Names of relations, each with the relations to include below it."""

INCLUDE_LIMIT = 100
"""Related rows of one parent, unless the query says otherwise."""

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Branch:
    """A relation to read below rows: which of the related rows, what of them and in which order.

    ``name`` is the member of a row that holds it; what a ``spread`` one has of fields and branches becomes members of
    the row itself, as lists where there may be many. ``limit`` and ``offset`` are rows of one parent. Without ``sort``
    the order is that of the relation.
    """

    name: str
    relation: Relation
    fields: tuple[Field, ...]
    below: tuple[Branch, ...] = ()
    where: tuple[Node, ...] = ()
    sort: tuple[SortKey, ...] = ()
    limit: int = INCLUDE_LIMIT
    offset: int = 0
    spread: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The members of a row that this sets."""
        if not self.spread:
            return (self.name,)
        return (*(item.name for item in self.fields), *(name for item in self.below for name in item.names))

    def set(self, item: dict[str, Any], found: list[dict[str, Any]]) -> None:
        """Put the related rows that were found on the object of their parent."""
        many = self.relation.to_many
        if not self.spread:
            item[self.name] = found if many else (found[0] if found else None)
            return
        for name in self.names:
            values = [other[name] for other in found]
            item[name] = values if many else (values[0] if values else None)


def branches_of(resource: Resource, tree: Tree, limit: int) -> tuple[Branch, ...]:
    """Return a tree of names as branches of whole rows, at most ``limit`` for one parent."""
    found: list[Branch] = []
    for name, below in tree.items():
        relation = resource.relations[name]
        target = relation.target
        fields = tuple(target.readable.values())
        found.append(Branch(name, relation, fields, branches_of(target, below, limit), limit=limit))
    return tuple(found)


def local_columns(branches: Iterable[Branch]) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a row that its relations are looked up by."""
    return list(dict.fromkeys(local for item in branches for local, _ in item.relation.pairs))


def attach(
    session: Session,
    ownership: Ownership,
    branches: Iterable[Branch],
    parents: Sequence[tuple[dict[str, Any], Mapping[sa.ColumnElement[Any], Any]]],
    size: AnswerSize | None = None,
) -> None:
    """Set each relation on the objects of a page.

    ``parents`` are pairs of the object that is answered and its values by column, which hold those of
    :func:`local_columns`. Raises a 422 past the ``size`` that the answer may have.
    """
    for branch in branches:
        groups = _load(session, ownership, branch, [values for _, values in parents], size)
        for item, values in parents:
            found = groups.get(tuple(values[local] for local, _ in branch.relation.pairs), [])
            branch.set(item, found)
            if size is not None:
                size.add(item, found)
    if size is not None:
        size.check(item for item, _ in parents)


def _load(
    session: Session,
    ownership: Ownership,
    branch: Branch,
    parents: Iterable[Mapping[sa.ColumnElement[Any], Any]],
    size: AnswerSize | None,
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    relation, fields = branch.relation, branch.fields
    wanted = dict.fromkeys(tuple(values[local] for local, _ in relation.pairs) for values in parents)
    keys = [key for key in wanted if None not in key]
    target = relation.target
    extra = local_columns(branch.below)
    serializer = Serializer(fields)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    children: list[tuple[dict[str, Any], dict[sa.ColumnElement[Any], Any]]] = []
    dialect = dialect_of(session)
    where = compile_nodes(branch.where, target, dialect, ownership.criteria)
    order = Ordering(target, branch.sort, dialect).order_by() if branch.sort else ()

    def read(some: Sequence[Row], told: Sequence[sa.ColumnElement[bool]] = ()) -> list[Row]:
        more = [*extra, *told]
        statement = related_statement(
            ownership, relation, target, fields, more, some, branch.limit, where=where, order=order, skip=branch.offset
        )
        return fetch(session, statement if size is None else statement.limit(size.limit + 1), fields)

    width = len(fields)
    for start in range(0, len(keys), _CHUNK):
        some = keys[start : start + _CHUNK]
        found = _by_parent(relation, some, read, width + len(extra), dialect.name)
        for item, (row, parents_of_row) in zip(serializer.objects([row for row, _ in found]), found, strict=True):
            children.append((item, dict(zip(extra, row[width:], strict=False))))
            for key in parents_of_row:
                groups.setdefault(key, []).append(item)
        if size is not None:
            size.check_number(len(children))
    if branch.below and children:
        attach(session, ownership, branch.below, children, size)
    return groups


def _by_parent(
    relation: Relation, keys: Sequence[Row], read: Callable[..., list[Row]], width: int, database: str
) -> list[tuple[Row, list[Row]]]:
    """Related rows, each with the keys of the parents that it belongs to.

    Where its own key is none of theirs, or two of theirs may be one, the statement itself compares them.
    """
    number = len(relation.pairs)
    if not may_be_alike(keys, database):
        known = set(keys)
        found = [(row, [row[-number:]]) for row in read(keys)]
        if all(key in known for _, (key,) in found):
            return found
    told: list[tuple[Row, list[Row]]] = []
    columns = [column for _, column in relation.pairs]
    for start in range(0, len(keys), ASKED_AT_ONCE):
        some = keys[start : start + ASKED_AT_ONCE]
        told += [
            (row, [key for key, same in zip(some, row[width:], strict=False) if same])
            for row in read(some, [equal(columns, key) for key in some])
        ]
    return told


def related_statement(
    ownership: Ownership,
    relation: Relation,
    target: Resource,
    fields: Sequence[Field],
    extra: Sequence[sa.ColumnElement[Any]],
    keys: Sequence[tuple[Any, ...]],
    limit: int,
    *,
    where: Iterable[sa.ColumnElement[bool]] = (),
    order: Sequence[sa.ColumnElement[Any]] = (),
    skip: int = 0,
) -> sa.Select[Any]:
    """Return what reads the related rows of parents with these keys; its last columns are those keys."""
    source = target.source()
    remote = [column for _, column in relation.pairs]
    among = remote[0].in_([key[0] for key in keys]) if len(remote) == 1 else sa.tuple_(*remote).in_(keys)
    origin: sa.FromClause = source.selectable
    if relation.secondary is not None:
        on = sa.and_(*(here == there for here, there in relation.secondary_pairs))
        origin = sa.join(relation.secondary, origin, on)
    columns = [*(item.column for item in fields), *extra, *remote]
    labelled = [column.label(f"c{number}") for number, column in enumerate(columns)]
    visible = (
        ownership.criteria(source)
        if relation.between is None
        else (*ownership.criteria(source), *ownership.criteria(relation.between.source()))
    )
    statement = sa.select(*labelled).select_from(origin).where(among, *visible, *where)
    if not relation.to_many:
        return statement
    order = order or relation.order_by or tuple(item.column for item in target.key)
    number = sa.func.row_number().over(partition_by=remote, order_by=order or remote).label("number")
    ranked = statement.add_columns(number).subquery("ranked")
    limited: Any = (
        sa.select(*(ranked.c[f"c{index}"] for index in range(len(columns))))
        .where(ranked.c.number <= skip + limit)
        .order_by(ranked.c.number)
    )
    return cast("sa.Select[Any]", limited.where(ranked.c.number > skip) if skip else limited)
