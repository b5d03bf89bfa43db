"""Whole answers of plain reads: what `Endpoints.read` and `Listing.read_page` answer, without anything in between.

Each of these answers or says None; then the ordinary route does all of it anew. They never refuse a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from starlette.datastructures import QueryParams
from starlette.types import Scope

from ..endpoints import Endpoints
from ..etag import matches
from ..keys import KeyNotFoundError, MalformedKeyError, decode_key
from ..listing import Listing
from ..operations.rows import Row
from ..query import ListQuery, Planned, QueryError, parse_query
from ..selection import reached_by
from ..serialize import dump_fragments, dump_json, fragment, with_offset
from .children import Children
from .statement import Found
from .work import UNREADABLE, GiveWay, Work, processed, total_of
from .writer import Write, writer

__all__ = ["Answer", "PageAnswers", "RowAnswers"]

Groups: TypeAlias = dict[tuple[Any, ...], list[dict[str, Any]]]

_MAX_QUERIES = 256
_MAX_QUERY = 512
_JSON = (b"content-type", b"application/json")


class Answer(NamedTuple):
    """A response that is complete."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class RowAnswers:
    """Answers reads of one row."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.is_possible = "after_read" not in endpoints.settings.hooks and endpoints.presentation.is_direct

    async def answer(self, scope: Scope, segment: str) -> Answer | None:
        """Answer a read of the row with this key."""
        endpoints = self.endpoints
        if scope["query_string"]:
            return None
        try:
            key = decode_key(endpoints.resource.key, segment)
        except (MalformedKeyError, KeyNotFoundError):
            return None
        reads = endpoints.short_way.open()
        if reads is None:
            return None
        try:
            rows = await reads.run(endpoints.by_key(key))
        except GiveWay:
            return None
        if not rows:
            return None
        tag = endpoints.shape.etag(rows[0])
        etag = (b"etag", tag.encode())
        known = _header(scope, b"if-none-match")
        if known is not None and matches(known.decode("latin-1"), tag, weak=True):
            return Answer(304, [etag], b"")
        body = endpoints.presentation.row(rows[0])
        return Answer(200, [etag, (b"content-length", b"%d" % len(body)), _JSON], body)


class _Read(NamedTuple):
    """What was read: a page, the total, what belongs to its rows; ``is_nested`` where that stands in the rows."""

    found: Found | list[Row]
    total: int | None
    groups: list[tuple[Children, Groups]]
    is_nested: bool


class _Asked:
    """What one query string asks for, with the statements that answer it."""

    __slots__ = (
        "children",
        "counting",
        "may_nest",
        "nested",
        "pairs",
        "planned",
        "probe",
        "query",
        "reaches",
        "writes",
    )

    def __init__(
        self,
        pairs: list[tuple[str, str]],
        query: ListQuery,
        planned: Planned,
        counting: Any,
        probe: sa.Select[Any] | None,
        children: Sequence[Children],
        may_nest: bool,
    ) -> None:
        self.may_nest = may_nest
        self.nested: sa.Select[Any] | None = None
        self.probe = probe
        self.children = children
        self.reaches = bool(children) or any(True for _ in reached_by(query.filters))
        self.pairs = pairs
        self.query = query
        self.planned = planned
        self.counting: tuple[sa.Select[Any], dict[str, Any]] | None = counting
        self.writes: dict[bool, Write] = {}

    def work(self) -> Work[_Read]:
        """Read the page, count where that is asked for, and read what belongs to its rows."""
        found: Found | list[Row]
        nested = self.nested
        if nested is not None:
            found = yield nested, self.planned.parameters
        elif len(self.planned.statements) == 1:
            found = yield self.planned.statements[0], self.planned.parameters
        elif self.children:
            raise GiveWay
        else:
            found = yield from processed(self.planned.steps())
        total: int | None = None
        if self.counting is not None:
            total = yield from total_of(self.counting, self.probe)
        groups: list[tuple[Children, Groups]] = []
        for child in self.children if nested is None else ():
            assert isinstance(found, Found)
            related = yield from child.read(found, self.query.limit)
            groups.append((child, related))
        return _Read(found, total, groups, nested is not None)


class PageAnswers:
    """Answers lists as JSON; a query string that was read once is not read again."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.is_possible = "after_read" not in listing.settings.hooks and listing.endpoints.presentation.is_direct
        self._asked: dict[tuple[bytes, str], _Asked] = {}
        self._related: dict[str, Children | None] = {}
        self._nested: WeakKeyDictionary[sa.Select[Any], dict[tuple[str, ...], sa.Select[Any]]] = WeakKeyDictionary()

    async def answer(self, scope: Scope) -> Answer | None:
        """Answer a list."""
        accept = _header(scope, b"accept")
        if accept is not None and (b"csv" in accept or b"ndjson" in accept):
            return None
        listing = self.listing
        reads = listing.endpoints.short_way.open()
        if reads is None:
            return None
        asked = self._read(scope["query_string"], reads.dialect)
        if asked is None or (asked.reaches and listing.endpoints.access.has_rules):
            return None
        snapshot = asked.counting is not None or bool(asked.children) or len(asked.planned.statements) > 1
        try:
            read = await reads.run(asked.work(), snapshot=snapshot)
            total = read.total
            page = listing.page_of(asked.query, asked.planned, _rows(read, asked), scope["path"], asked.pairs, total)
            write = asked.writes.get(read.is_nested)
            items = listing.serializer.objects(page.rows) if write is None else write(page.rows)
            for child, related in read.groups:
                for item, row in zip(items, page.rows, strict=True):
                    child.set(item, row, related)
            content = {"items": items, "next": page.next, "total": page.total} if listing.settings.envelope else items
            body = dump_fragments(content) if read.is_nested else dump_json(content)
        except (GiveWay, *UNREADABLE):
            return None
        if asked.may_nest:
            self._nest(asked)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in page.headers.items()]
        return Answer(200, [*headers, (b"content-length", b"%d" % len(body)), _JSON], body)

    def _read(self, raw: bytes, dialect: sa.Dialect) -> _Asked | None:
        name = (raw, dialect.name)
        asked = self._asked.get(name)
        if asked is not None:
            return asked
        listing = self.listing
        pairs = QueryParams(raw).multi_items()
        try:
            query = parse_query(listing.resource, pairs, listing.settings.query)
            children = self._children(query)
            if query.fields is not None or children is None or query.count == "estimated":
                return None
            planned = listing.plan(query, dialect)
            counting = listing.plans.count(query, dialect) if query.count == "exact" else None
        except QueryError:
            return None
        asked = _Asked(
            pairs,
            query,
            planned,
            counting,
            listing.probe(query, dialect),
            children,
            # rows that an offset skips would have what belongs to them looked up
            bool(children) and dialect.name == "postgresql" and query.style == "cursor" and not query.skip,
        )
        if len(raw) <= _MAX_QUERY:
            if len(self._asked) >= _MAX_QUERIES:
                self._asked.pop(next(iter(self._asked)))
            self._asked[name] = asked
        return asked

    def _nest(self, asked: _Asked) -> None:
        """Let one statement read the page with all that belongs to it, where the first read shows that it can."""
        if not all(child.is_known for child in asked.children):
            return
        asked.may_nest = False
        related = [child.json for child in asked.children]
        fields = tuple(self.listing.resource.readable.values())
        if (
            fragment is None
            or len(asked.planned.statements) != 1
            or False not in asked.writes
            or asked.planned.ordering.values_of(fields) is None
        ):
            return
        columns = [each.label(f"related_{place}") for place, each in enumerate(related) if each is not None]
        if len(columns) < len(related):
            return
        statement = asked.planned.statements[0]
        known = self._nested.setdefault(statement, {})
        names = tuple(child.name for child in asked.children)
        if names not in known:
            known[names] = statement.add_columns(*columns)
        asked.nested = known[names]

    def _children(self, query: ListQuery) -> list[Children] | None:
        """The relations that a list includes; None where one of them is more than this can read."""
        found: list[Children] = []
        for name, below in query.include.items():
            if name not in self._related:
                self._related[name] = Children.of(self.listing.resource, name)
            child = self._related[name]
            if child is None or below:
                return None
            found.append(child)
        return found


def _rows(read: _Read, asked: _Asked) -> list[Row]:
    """The rows as the cursors need them; sets what writes them, where that can be done from the driver's values."""
    found = read.found
    if not isinstance(found, Found):
        return found
    ordering = asked.planned.ordering
    fields = ordering.resource.readable.values()
    places = ordering.values_of(tuple(fields))
    width = len(fields)
    if any(place >= width or place in (places or ()) for place, _ in found.processors):
        return found.processed()
    if read.is_nested not in asked.writes:
        names = [field.name for field in fields]
        processors = [
            *found.processors,
            *((place, with_offset) for place, field in enumerate(fields) if field.timezone),
        ]
        if read.is_nested:
            assert fragment is not None
            names += [child.name for child in asked.children]
            processors += [(place, fragment) for place in range(width, found.width)]
        asked.writes[read.is_nested] = writer(names, found.width, processors)
    return list(found.raw)


def _header(scope: Scope, name: bytes) -> bytes | None:
    """The first header field of that name."""
    for found, value in scope["headers"]:
        if found == name:
            return bytes(value)
    return None
