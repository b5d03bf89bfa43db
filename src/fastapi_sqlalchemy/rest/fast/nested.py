"""Related rows as JSON that PostgreSQL writes, so that one statement reads a page with all that belongs to its rows.

Only for columns whose JSON PostgreSQL writes byte for byte as the serializer does: integers, text, booleans and UUIDs,
told by the types that the server itself has for them. Floats, timestamps, numerics, intervals, arrays and JSON it
writes in another form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

import sqlalchemy as sa

from ..fields import Field
from ..narrowing import is_table
from ..operations.include import INCLUDE_LIMIT
from ..relations import Relation
from ..resource import Resource, Source

__all__ = ["related_json"]

Text = sa.ColumnElement[Any]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def _as_text(column: Text) -> Text:
    return sa.cast(column, sa.Text)


def _quoted(column: Text) -> Text:
    return _joined([_constant('"'), _as_text(column), _constant('"')])


def _escaped(column: Text) -> Text:
    return _as_text(sa.func.to_json(column))


_INTEGERS: Final[Mapping[Any, Callable[[Text], Text]]] = dict.fromkeys((20, 21, 23), _as_text)  # int8, int2, int4
_KEYS: Final[Mapping[Any, Callable[[Text], Text]]] = {**_INTEGERS, 2950: _quoted}  # uuid
_WRITERS: Final[Mapping[Any, Callable[[Text], Text]]] = {**_KEYS, 16: _as_text, 25: _escaped, 1043: _escaped}
"""How a column is written, by the OID of its type: bool, text and varchar beside the keys."""


def related_json(
    resource: Resource, relation: Relation, fields: Sequence[Field], codes: Sequence[Any]
) -> sa.ScalarSelect[Any] | None:
    """Return the related rows of one row of ``resource`` as the text of a JSON array, to be a column of its SELECT.

    ``codes`` are the OIDs of the types of ``fields`` and of the key that they are found by. None where the answer
    could differ from the serializer's, where the order is not that of a key, so that two statements might choose
    differently, or where no index serves the key: the rows of each parent are looked up by themselves.
    """
    (local, remote), target = relation.pairs[0], relation.target
    if not (relation.to_many and is_table(resource.table) and is_table(target.table) and codes[-1] in _KEYS):
        return None
    if relation.secondary is not None and (not is_table(relation.secondary) or relation.secondary is resource.table):
        return None
    if not (all(map(_is_written_alike, fields, codes)) and _is_total(relation, target) and _has_index(remote)):
        return None
    source = target.aliased("related")
    origin: sa.FromClause = source.selectable
    found_by = remote
    if relation.secondary is None:
        found_by = source.column(remote)
    else:
        on = sa.and_(*(source.column(here) == there for here, there in relation.secondary_pairs))
        origin = sa.join(relation.secondary, origin, on)
    order = relation.order_by or tuple(item.column for item in target.key)
    item = _object(source, fields, codes).label("item")
    rows = (
        sa.select(item)
        .select_from(origin)
        .where(found_by == local, *source.criteria)
        .order_by(*(source.adapt(part) for part in order))
        .limit(sa.literal_column(str(INCLUDE_LIMIT)))
        .correlate(resource.table)
        .subquery("items")
    )
    items = sa.func.coalesce(sa.func.string_agg(rows.c.item, _constant(",")), _constant(""))
    return sa.select(_joined([_constant("["), items, _constant("]")])).scalar_subquery()


def _is_written_alike(field: Field, code: Any) -> bool:
    column = field.column
    return (
        code in _WRITERS
        and isinstance(column, sa.Column)
        and not getattr(column.type, "_has_column_expression", True)
        and _PLAIN_NAME.fullmatch(field.name) is not None
    )


def _is_total(relation: Relation, target: Resource) -> bool:
    """Whether no two rows of the target stand at the same place of the order."""
    parts = [_bare(part) for part in relation.order_by]
    keys = [item.column for item in target.key]
    return bool(keys) and (not parts or all(any(key.shares_lineage(part) for part in parts) for key in keys))


def _bare(part: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    while isinstance(part, sa.UnaryExpression):
        part = part.element
    return part


def _has_index(column: sa.ColumnElement[Any]) -> bool:
    """Whether an index of the table begins with the column, as far as the metadata knows."""
    table = column.table if isinstance(column, sa.Column) else None
    if not is_table(table):
        return False
    unique = [each for each in table.constraints if isinstance(each, (sa.PrimaryKeyConstraint, sa.UniqueConstraint))]
    whole = [each for each in table.indexes if each.dialect_options["postgresql"].get("where") is None]
    indexed: list[list[Any]] = [list(each.columns) for each in unique] + [list(each.expressions) for each in whole]
    return any(columns and columns[0] is column for columns in indexed)


def _object(source: Source, fields: Sequence[Field], codes: Sequence[Any]) -> Text:
    parts: list[Text] = []
    for place, (field, code) in enumerate(zip(fields, codes, strict=False)):
        parts.append(_constant(f'{"," if place else "{"}"{field.name}":'))
        parts.append(sa.func.coalesce(_WRITERS[code](source.column(field)), _constant("null")))
    return _joined([*parts, _constant("}")])


def _joined(parts: Sequence[Text]) -> Text:
    return reduce(lambda left, right: left.concat(right), parts)


def _constant(text: str) -> Text:
    """Text of the statement itself; it has no quotation mark of SQL's, and no backslash."""
    return sa.literal_column(f"'{text}'", sa.Text)
