"""Rows as the pages of the admin show them: read with the labels of the rows that they point at, never one by one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..rest.fields import Field
from ..rest.keys import KeyNotFoundError, MalformedKeyError, decode_key, encode_key
from ..rest.operations.read import count_rows, estimate_rows
from ..rest.operations.rows import Shape, Target, dialect_of, fetch, key_criteria
from ..rest.query.compiler import compile_filters
from ..rest.query.ordering import Ordering
from ..rest.query.tree import ListQuery, Node, SortKey
from ..rest.relations import Relation
from ..rest.resource import Resource
from .labels import label_of

__all__ = ["Link", "Linked", "Listed", "Reader", "Row"]

_ESTIMATED = 1_000_000
"""Rows from which a total is the planner's figure."""

_KEYS = 200
"""Keys in one statement."""


@dataclass(frozen=True, slots=True)
class Link:
    """Another row that a row points at: its key as the admin's pages have it, and its label."""

    key: str
    label: str


@dataclass(slots=True)
class Row:
    """A row: its values by field name, its key as text (or its place in the list, without a key), its label."""

    key: str
    label: str
    values: dict[str, Any]
    etag: str = ""
    links: dict[str, Link | None] = field(default_factory=dict[str, "Link | None"])


@dataclass(frozen=True, slots=True)
class Linked:
    """A relation to one row: the fields here that hold its key, and what labels it there."""

    relation: Relation
    fields: tuple[Field, ...]
    title: str
    labels: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list, and how many rows there are in all."""

    rows: list[Row]
    total: int


class Reader:
    """Reads the rows of one resource: a page costs one statement, its total another, each relation one more."""

    def __init__(self, target: Target, title: str, labels: Sequence[Field], linked: Iterable[Linked]) -> None:
        self.target = target
        self.resource: Resource = target.resource
        self.shape = Shape.of(self.resource)
        self.title = title
        self.labels = tuple(labels)
        self.linked = tuple(linked)
        self._aware = [item for item in self.shape.fields if item.timezone]

    def page(
        self, session: Session, where: Sequence[Node], sort: Sequence[SortKey], limit: int | None, offset: int
    ) -> list[Row]:
        """Return the rows of a page."""
        dialect = dialect_of(session)
        statement = (
            sa.select(*self.shape.columns)
            .select_from(self.resource.table)
            .where(*self.target.visible, *self._criteria(where, dialect))
            .order_by(*Ordering(self.resource, sort, dialect).order_by())
        )
        if limit is not None:
            statement = statement.limit(limit)
        if offset:
            statement = statement.offset(offset)
        return self._rows(session, fetch(session, statement, self.shape.fields), offset)

    def total(self, session: Session, where: Sequence[Node]) -> int:
        """Return how many rows there are: about so many where there are millions and nothing narrows them."""
        criteria = self._criteria(where, dialect_of(session))
        if not criteria and dialect_of(session).name == "postgresql":
            estimate = estimate_rows(session, self.target, ())
            if estimate > _ESTIMATED:
                return estimate
        return count_rows(session, self.target, criteria)

    def by_keys(self, session: Session, keys: Iterable[str]) -> list[Row]:
        """Return the rows of some keys, in their order; a key that no row has is left out."""
        decoded = [key for text in dict.fromkeys(keys) if (key := self.decode(text)) is not None]
        found: dict[str, Row] = {}
        for part in _parts(decoded):
            statement = (
                sa.select(*self.shape.columns)
                .select_from(self.resource.table)
                .where(_any_of(self.resource, part), *self.target.visible)
            )
            rows = self._rows(session, fetch(session, statement, self.shape.fields), 0)
            found.update((row.key, row) for row in rows)
        return [found[text] for key in decoded if (text := encode_key(key)) in found]

    def decode(self, text: str) -> tuple[Any, ...] | None:
        """Return the key that a text stands for, or None where no row can have it."""
        if not self.resource.key:
            return None
        try:
            return decode_key(self.resource.key, text)
        except (MalformedKeyError, KeyNotFoundError):
            return None

    def row(self, values: Sequence[Any]) -> Row:
        """Return one row of the shape, without its links."""
        by_name = self.shape.as_dict(tuple(values))
        key = encode_key(self.shape.key(tuple(values))) if self.resource.key else ""
        label = label_of(self.title, key, [by_name[item.name] for item in self.labels])
        for item in self._aware:
            value = by_name[item.name]
            if isinstance(value, dt.datetime) and value.tzinfo is None:  # SQLite and MariaDB keep UTC, and say nothing
                by_name[item.name] = value.replace(tzinfo=dt.UTC)
        return Row(key, label, by_name, self.shape.etag(tuple(values)))

    def _rows(self, session: Session, found: Sequence[Sequence[Any]], offset: int) -> list[Row]:
        rows = [self.row(values) for values in found]
        if not self.resource.key:
            for number, row in enumerate(rows, offset + 1):
                row.key = str(number)
        for linked in self.linked:
            self._link(session, rows, linked)
        return rows

    def _link(self, session: Session, rows: Sequence[Row], linked: Linked) -> None:
        """Give every row its link of one relation, with one statement for all."""
        name = linked.relation.name
        keys = {index: self._foreign_key(row.values, linked) for index, row in enumerate(rows)}
        wanted = list(dict.fromkeys(key for key in keys.values() if key is not None))
        labels = self._labels(session, linked, wanted) if wanted and linked.labels else {}
        for index, row in enumerate(rows):
            key = keys[index]
            if key is None:
                row.links[name] = None
                continue
            text = encode_key(key)
            row.links[name] = Link(text, label_of(linked.title, text, labels.get(text, ())))

    def _foreign_key(self, values: Mapping[str, Any], linked: Linked) -> tuple[Any, ...] | None:
        """The key of the other row, in the order of its own key."""
        by_column = {
            there: values[item.name] for (_, there), item in zip(linked.relation.pairs, linked.fields, strict=True)
        }
        key = tuple(by_column[item.column] for item in linked.relation.target.key)
        return None if any(part is None for part in key) else key

    def _labels(self, session: Session, linked: Linked, keys: Sequence[tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
        resource = linked.relation.target
        fields = (*resource.key, *linked.labels)
        width = len(resource.key)
        found: dict[str, Sequence[Any]] = {}
        for part in _parts(keys):
            columns = [item.column for item in fields]
            statement = sa.select(*columns).select_from(resource.table).where(_any_of(resource, part))
            found.update((encode_key(row[:width]), row[width:]) for row in fetch(session, statement, fields))
        return found

    def _criteria(self, where: Sequence[Node], dialect: sa.Dialect) -> list[sa.ColumnElement[bool]]:
        query = ListQuery(
            filters=tuple(where),
            search=None,
            sort=(),
            limit=0,
            offset=None,
            cursor=None,
            fields=None,
            include={},
            count="none",
        )
        return compile_filters(query, self.resource, dialect)


def _parts(keys: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    for start in range(0, len(keys), _KEYS):
        yield keys[start : start + _KEYS]


def _any_of(resource: Resource, keys: Sequence[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    if len(resource.key) == 1:
        return resource.key[0].column.in_([key[0] for key in keys])
    return sa.or_(*(sa.and_(*key_criteria(resource, key)) for key in keys))
