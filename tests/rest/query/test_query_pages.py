"""Headers and links of a page (RFC 8288, RFC 9110)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from fastapi_sqlalchemy.rest.pagination import Page, content_range, make_page
from fastapi_sqlalchemy.rest.query import Ordering, parse_query

Params = list[tuple[str, str]]


def page(bench: Any, params: Params, rows: int, total: int | None = None, path: str = "/people") -> Page:
    """The page that ``rows`` rows make, counted from 1 in their key."""
    resource = bench.resource("Person")
    query = parse_query(resource, params)
    ordering = Ordering(resource, query.sort, bench.engines["sqlite"].dialect)
    found = [(number,) for number in range(1, rows + 1)]
    return make_page(query, ordering, found, places=None, path=path, params=params, total=total)


def target(url: str | None) -> dict[str, str]:
    assert url is not None
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


@pytest.mark.parametrize(
    ("start", "count", "total", "expected"),
    [
        (0, 50, 1234, "items 0-49/1234"),
        (0, 50, None, "items 0-49/*"),
        (100, 1, 101, "items 100-100/101"),
        (0, 0, 0, "items */0"),
        (10, 0, None, "items */*"),
    ],
)
def test_a_range_says_which_rows(start: int, count: int, total: int | None, expected: str) -> None:
    assert content_range(start, count, total) == expected


def test_a_page_of_a_counted_list_has_every_header(bench: Any) -> None:
    headers = page(bench, [("limit", "3"), ("offset", "3")], 4, total=9).headers
    assert headers["Content-Range"] == "items 3-5/9"
    assert headers["X-Total-Count"] == "9"
    assert headers["Link"] == (
        '</people?limit=3&offset=6>; rel="next", </people?limit=3&offset=0>; rel="prev", '
        '</people?limit=3&offset=0>; rel="first"'
    )


def test_a_page_that_is_not_counted_says_so(bench: Any) -> None:
    headers = page(bench, [("limit", "3")], 4).headers
    assert headers["Content-Range"] == "items 0-2/*"
    assert "X-Total-Count" not in headers


def test_the_rows_are_cut_to_the_page(bench: Any) -> None:
    assert page(bench, [("limit", "3")], 4).rows == [(1,), (2,), (3,)]
    assert page(bench, [("limit", "3")], 3).next is None
    assert page(bench, [("limit", "3")], 0).rows == []


def test_the_last_page_has_no_next_and_the_first_no_prev(bench: Any) -> None:
    last = page(bench, [("limit", "3"), ("offset", "6")], 2)
    assert last.next is None
    assert target(last.prev)["offset"] == "3"
    first = page(bench, [("limit", "3"), ("offset", "0")], 4)
    assert first.prev is None
    near = page(bench, [("limit", "3"), ("offset", "1")], 4)
    assert target(near.prev)["offset"] == "0"


def test_links_by_cursor_keep_the_rest_of_the_query(bench: Any) -> None:
    params = [("city__in", "a\\,b,ü"), ("limit", "2"), ("sort", "-id")]
    found = page(bench, params, 3)
    again = target(found.next)
    assert {name: again[name] for name, _ in params} == dict(params)
    assert again["cursor"] == found.next_cursor
    assert found.prev is None
    assert target(found.first) == dict(params)


def test_a_walk_counts_the_rows_it_has_passed(bench: Any) -> None:
    params = [("limit", "2")]
    second = page(bench, [*params, ("cursor", target(page(bench, params, 3).next)["cursor"])], 3)
    assert second.headers["Content-Range"] == "items 2-3/*"
    third = page(bench, [*params, ("cursor", target(second.next)["cursor"])], 1)
    assert third.headers["Content-Range"] == "items 4-4/*"
    assert third.next is None
    back = page(bench, [*params, ("cursor", target(third.prev)["cursor"])], 3)
    assert back.headers["Content-Range"] == "items 2-3/*"
    assert back.rows == [(2,), (1,)]


def test_a_path_of_any_letters_makes_a_header(bench: Any) -> None:
    found = page(bench, [("limit", "1")], 2, path="/Größe Details/ü").headers["Link"]
    assert found.isascii()
    assert found.startswith("</Gr%C3%B6%C3%9Fe%20Details/%C3%BC?")
