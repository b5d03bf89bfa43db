"""One page of a list: its rows in order, and the headers that say where it is and where the others are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from .query.ordering import Ordering
from .query.tree import Cursor, ListQuery

__all__ = ["Page", "content_range", "make_page"]


_PATH = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page. ``next``, ``prev`` and ``first`` are URLs; ``next_cursor`` is the bare cursor, if there is one.

    ``start`` is how many rows come before the page, None where nobody knows. ``total`` is None when not counted.
    """

    rows: list[Any]
    start: int
    total: int | None
    next: str | None = None
    prev: str | None = None
    first: str | None = None
    next_cursor: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers: Content-Range (RFC 9110, 14.4, with the unit ``items``), X-Total-Count, Link (RFC 8288)."""
        found = {"Content-Range": content_range(self.start, len(self.rows), self.total)}
        if self.total is not None:
            found["X-Total-Count"] = str(self.total)
        links = [
            f'<{url}>; rel="{name}"'
            for name, url in (("next", self.next), ("prev", self.prev), ("first", self.first))
            if url is not None
        ]
        if links:
            found["Link"] = ", ".join(links)
        return found


def content_range(start: int, count: int, total: int | None) -> str:
    """Return a Content-Range of rows: ``items 0-49/1234``, ``items */0`` for no rows, ``/*`` when not counted."""
    rows = f"{start}-{start + count - 1}" if count else "*"
    return f"items {rows}/{'*' if total is None else total}"


def make_page(
    query: ListQuery,
    ordering: Ordering,
    rows: Sequence[Sequence[Any]],
    *,
    places: Sequence[int] | None,
    path: str,
    params: Iterable[tuple[str, str]],
    total: int | None = None,
    cursor_key: bytes = b"",
) -> Page:
    """Return the page that the rows of a statement make.

    The statement reads one row more than the page has, in the order and past the cursor that ``ordering`` gives.
    ``places`` tell where in a row the values of a cursor stand; None means its last columns, which are those of
    :meth:`Ordering.columns`. ``path`` is the path of the list, ``params`` the query as it came in, for the links:
    these are relative, so that no proxy's host name can be wrong in them.
    """
    others = [(name, value) for name, value in params if name not in ("cursor", "offset")]
    found = list(rows[: query.limit])
    more = len(rows) > query.limit
    if query.style == "offset" or not ordering.has_cursors:
        return _by_offset(query, found, more, path, others, total)
    cursor = query.cursor or Cursor(None)
    start = cursor.position
    if cursor.backward:
        found.reverse()
        start = max(0, cursor.position - len(found))
    has_next, has_prev = (True, more) if cursor.backward else (more, cursor.values is not None)
    page = Page(found, start, total, first=_url(path, others))
    if not found:
        return page
    width = len(ordering.keys)
    taken = range(-width, 0) if places is None else places
    end = start + len(found)

    def values_of(row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[place] for place in taken)

    following: str | None = None
    next_page: str | None = None
    if has_next:
        passed = found[-1:] if ordering.is_total else found
        after = None if cursor.backward else values_of(rows[query.limit])
        behind = ordering.behind(cursor, [values_of(row) for row in passed], after)
        following = ordering.encode(replace(behind, position=end), cursor_key)
        next_page = _url(path, others, offset=end) if following is None else _url(path, others, cursor=following)
    previous: str | None = None
    if has_prev:
        back = ordering.encode(Cursor(values_of(found[0]), True, start), cursor_key) if ordering.is_total else None
        before = max(0, start - query.limit)
        previous = _url(path, others, offset=before) if back is None else _url(path, others, cursor=back)
    return replace(page, next=next_page, prev=previous, next_cursor=following)


def _by_offset(
    query: ListQuery, rows: list[Any], more: bool, path: str, others: list[tuple[str, str]], total: int | None
) -> Page:
    start = query.offset or 0
    return Page(
        rows,
        start,
        total,
        next=_url(path, others, offset=start + query.limit) if more else None,
        prev=_url(path, others, offset=max(0, start - query.limit)) if start else None,
        first=_url(path, others, offset=0),
    )


def _url(path: str, others: Iterable[tuple[str, str]], **place: str | int) -> str:
    """A link; what ``place`` says is a cursor or a number, which need no quotes."""
    words = [_encoded(tuple(others)), *(f"{name}={value}" for name, value in place.items())]
    query = "&".join(word for word in words if word)
    return f"{_quoted(path)}?{query}" if query else _quoted(path)


@lru_cache(maxsize=256)
def _encoded(pairs: tuple[tuple[str, str], ...]) -> str:
    return urlencode(pairs, quote_via=quote)


@lru_cache(maxsize=256)
def _quoted(path: str) -> str:
    return quote(path, safe=_PATH)
