"""Related rows of a page: one more query per relation, never one per row and never a join that multiplies rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..fields import Field
from ..ownership import Ownership
from ..relations import Relation
from ..resource import Resource
from ..serialize import Serializer
from .rows import fetch

__all__ = ["Tree", "attach", "fold", "local_columns", "related_statement"]

Tree = Mapping[str, "Tree"]
"""Names of relations, each with the relations to include below it."""

_CHUNK = 500


def local_columns(resource: Resource, tree: Tree) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a row that its relations are looked up by."""
    columns = (local for name in tree for local, _ in resource.relations[name].pairs)
    return list(dict.fromkeys(columns))


def attach(
    session: Session,
    ownership: Ownership,
    resource: Resource,
    tree: Tree,
    parents: Sequence[tuple[dict[str, Any], Mapping[sa.ColumnElement[Any], Any]]],
    limit: int,
) -> None:
    """Set each relation of the tree on the objects of a page.

    ``parents`` are pairs of the object that is answered and its values by column, which hold those of
    :func:`local_columns`. ``limit`` bounds the related rows of one parent.
    """
    for name, below in tree.items():
        relation = resource.relations[name]
        groups = _load(session, ownership, relation, below, [values for _, values in parents], limit)
        for item, values in parents:
            found = groups.get(fold(values[local] for local, _ in relation.pairs), [])
            item[name] = found if relation.to_many else (found[0] if found else None)


def _load(
    session: Session,
    ownership: Ownership,
    relation: Relation,
    below: Tree,
    parents: Iterable[Mapping[sa.ColumnElement[Any], Any]],
    limit: int,
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    wanted = dict.fromkeys(tuple(values[local] for local, _ in relation.pairs) for values in parents)
    keys = [key for key in wanted if None not in key]
    target = relation.target
    fields = tuple(target.readable.values())
    extra = local_columns(target, below)
    serializer = Serializer(fields)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    children: list[tuple[dict[str, Any], dict[sa.ColumnElement[Any], Any]]] = []
    for start in range(0, len(keys), _CHUNK):
        statement = related_statement(ownership, relation, target, fields, extra, keys[start : start + _CHUNK], limit)
        rows = fetch(session, statement, fields)
        width = len(fields)
        for item, row in zip(serializer.objects(rows), rows, strict=True):
            children.append((item, dict(zip(extra, row[width:], strict=False))))
            groups.setdefault(fold(row[width + len(extra) : width + len(extra) + len(relation.pairs)]), []).append(item)
    if below and children:
        attach(session, ownership, target, below, children, limit)
    return groups


def related_statement(
    ownership: Ownership,
    relation: Relation,
    target: Resource,
    fields: Sequence[Field],
    extra: Sequence[sa.ColumnElement[Any]],
    keys: Sequence[tuple[Any, ...]],
    limit: int,
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
    statement = sa.select(*labelled).select_from(origin).where(among, *ownership.criteria(source))
    order = relation.order_by or tuple(item.column for item in target.key)
    if not relation.to_many:
        return statement
    number = sa.func.row_number().over(partition_by=remote, order_by=order or remote).label("number")
    ranked = statement.add_columns(number).subquery("ranked")
    limited: Any = (
        sa.select(*(ranked.c[f"c{index}"] for index in range(len(columns))))
        .where(ranked.c.number <= limit)
        .order_by(ranked.c.number)
    )
    return cast("sa.Select[Any]", limited)


def fold(values: Iterable[Any]) -> tuple[Any, ...]:
    """A key as databases compare it: some fold the case of text."""
    return tuple(value.casefold() if isinstance(value, str) else value for value in values)
