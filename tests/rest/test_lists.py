"""A list: pages, headers, relations, streams, and how many statements they take."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.rest.operations import export
from tests.support.client import TestClient


@pytest.fixture
def library(shop: Any) -> Any:
    """Three authors, thirty books, two tags."""
    shop.insert("Author", *({"id": n, "name": f"author {n}"} for n in (1, 2, 3)))
    shop.insert(
        "Book",
        *(
            {"id": n, "title": f"title {n % 7}", "pages": n, "author_id": None if n % 5 == 0 else 1 + n % 2}
            for n in range(1, 31)
        ),
    )
    shop.insert("Tag", {"id": 1, "name": "old"}, {"id": 2, "name": "new"})
    with shop.db.engine.begin() as connection:
        label = shop.db.metadata.tables["label"]
        connection.execute(label.insert(), [{"book_id": n, "tag_id": 1 + n % 2} for n in range(1, 31)])
        connection.execute(label.insert(), [{"book_id": 1, "tag_id": 1}])
    return shop


def links(response: Any) -> dict[str, str]:
    found = {}
    for part in filter(None, response.headers.get("link", "").split(", ")):
        url, _, name = part.partition("; rel=")
        found[name.strip('"')] = url.strip("<>")
    return found


def walk(client: Any, path: str, relation: str = "next") -> list[Any]:
    pages = [client.get(path)]
    while relation in links(pages[-1]):
        pages.append(client.get(links(pages[-1])[relation]))
    assert all(page.status_code == 200 for page in pages)
    return pages


def test_a_page_says_where_it_is(library: Any) -> None:
    first = library.client.get("/books?limit=4")
    assert first.headers["content-range"] == "items 0-3/*"
    assert [row["id"] for row in first.json()] == [1, 2, 3, 4]
    assert set(links(first)) == {"next", "first"}
    counted = library.client.get("/books?limit=4&offset=8&count=exact&pages__gt=2")
    assert counted.headers["content-range"] == "items 8-11/28"
    assert counted.headers["x-total-count"] == "28"
    assert set(links(counted)) == {"next", "prev", "first"}
    empty = library.client.get("/books?pages__gt=99&count=exact")
    assert empty.json() == []
    assert empty.headers["content-range"] == "items */0"


@pytest.mark.parametrize("query", ["", "&offset=0", "&sort=-title", "&sort=title,-author_id&fields=id,title"])
def test_pages_hold_every_row_once(library: Any, query: str) -> None:
    whole = library.client.get(f"/books?limit=500{query}").json()
    assert len(whole) == 30
    pages = walk(library.client, f"/books?limit=7{query}")
    assert [row for page in pages for row in page.json()] == whole
    back = walk(library.client, pages[-1].request.url.__str__(), "prev")
    assert [row for page in reversed(back) for row in page.json()] == whole


def test_fields_and_filters_choose(library: Any) -> None:
    rows = library.client.get("/books?fields=pages,id&author.name=author 2&pages__in=1,3,5&sort=-pages").json()
    assert rows == [{"pages": 3, "id": 3}, {"pages": 1, "id": 1}]
    assert [row["id"] for row in library.client.get("/books?q=TITLE 6").json()] == [6, 13, 20, 27]
    tree = json.dumps({"or": [{"pages__lt": 2}, {"not": {"pages__lt": 30}}]})
    assert [row["id"] for row in library.client.get("/books", params={"filter": tree}).json()] == [1, 30]


@pytest.mark.parametrize(
    "query", ["nope=1", "sort=nope", "fields=nope", "include=nope", "limit=501", "limit=0", "cursor=abc", "q=a&q=b"]
)
def test_a_query_that_cannot_be_is_refused(library: Any, query: str) -> None:
    response = library.client.get(f"/books?{query}")
    assert response.status_code == 422
    assert response.json()["code"] == "validation_error"
    assert response.json()["errors"][0]["loc"][0] == "query"


def test_relations_are_included_with_one_more_statement_each(library: Any) -> None:
    for path, statements in (
        ("/books?include=author", 2),
        ("/books?include=tags", 2),
        ("/books?include=author,tags", 3),
        ("/books?include=author.books,tags", 4),
        ("/authors?include=books.tags", 3),
        ("/authors/1?include=books.tags", 3),
    ):
        library.client.get(path)
        with library.statements() as executed:
            assert library.client.get(path).status_code == 200
        assert len(executed.texts) == statements, executed.texts


def test_included_rows_are_those_of_their_parent(library: Any) -> None:
    books = library.client.get("/books?include=author,tags").json()
    assert len(books) == 30
    for book in books:
        expected = (
            None if book["author_id"] is None else {"id": book["author_id"], "name": f"author {book['author_id']}"}
        )
        assert book["author"] == (expected and {**expected, "born": None})
        assert [tag["id"] for tag in book["tags"]] == ([1, 2] if book["id"] == 1 else [1 + book["id"] % 2])
        assert "api_key" not in book
    authors = library.client.get("/authors?include=books").json()
    assert [[book["id"] for book in author["books"]] for author in authors] == [
        [n for n in range(1, 31) if n % 5 and 1 + n % 2 == number] for number in (1, 2, 3)
    ]
    assert library.client.get("/authors?include=books&fields=name").json()[2] == {"name": "author 3", "books": []}


def test_included_rows_of_one_parent_are_bounded(library: Any) -> None:
    library.insert("Book", *({"id": 1000 + n, "title": "many", "author_id": 3, "pages": n} for n in range(150)))
    authors = library.client.get("/authors?include=books").json()
    assert [len(author["books"]) for author in authors] == [12, 12, 100]


def test_an_envelope_holds_items_next_and_total(library: Any) -> None:
    app = FastAPI()
    app.include_router(
        CRUDRouter(
            library.models["Book"],
            db=library.db,
            prefix="/books",
            envelope=True,
            page_size=10,
            count="exact",
            use_async=False,
        )
    )
    with TestClient(app) as client:
        page = client.get("/books").json()
        seen = [row["id"] for row in page["items"]]
        while page["next"]:
            assert page["total"] == 30
            page = client.get(page["next"]).json()
            seen += [row["id"] for row in page["items"]]
        assert seen == list(range(1, 31))


def test_a_csv_holds_every_row_and_no_formula(library: Any) -> None:
    titles = ["=1+1", "+1", "-1", "@a", 'quote " and, comma', "line\nbreak", "žlutý"]
    library.insert("Book", *({"id": 100 + n, "title": title, "pages": -0} for n, title in enumerate(titles)))
    response = library.client.get("/books?fields=id,title,price&sort=id", headers={"accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(response.text, newline="")))
    assert rows[0] == ["id", "title", "price"]
    assert [row[0] for row in rows[1:]] == [str(n) for n in (*range(1, 31), *range(100, 107))]
    escaped = ["'=1+1", "'+1", "'-1", "'@a", *titles[4:]]
    assert [row[1] for row in rows[31:]] == escaped
    assert response.text.endswith("\r\n")


def test_ndjson_holds_a_row_a_line(library: Any) -> None:
    response = library.client.get("/books?include=author&sort=-id", headers={"accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert rows == library.client.get("/books?include=author&sort=-id&limit=500").json()


def test_a_stream_reads_past_its_first_chunk(shop: Any) -> None:
    shop.insert("Tag", *({"name": f"tag {n:05}"} for n in range(2_500)))
    lines = shop.client.get("/tags", headers={"accept": "application/x-ndjson"}).text.splitlines()
    assert [json.loads(line)["name"] for line in lines] == [f"tag {n:05}" for n in range(2_500)]
    bounded = shop.client.get("/tags?limit=7&sort=-name", headers={"accept": "text/csv"}).text.splitlines()
    assert len(bounded) == 8
    assert bounded[1].endswith(",tag 02499")


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
def test_r29_a_stream_does_not_grow_in_memory(
    shop: Any, accept: str, size: Callable[[int, int], int], figure: Callable[..., None]
) -> None:
    rows = size(100_000 if shop.variant == "sqlite sync" else 10_000, 1_000_000)
    fill(shop, rows)
    lines = 0

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: dict[str, Any]) -> None:
        nonlocal lines
        lines += message.get("body", b"").count(b"\n")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/tags",
        "raw_path": b"/tags",
        "query_string": b"sort=-name",
        "root_path": "",
        "headers": [(b"accept", accept.encode())],
        "server": ("test", 80),
        "scheme": "http",
    }
    before = peak_memory(reset=True)
    try:
        shop.client.portal.call(shop.app, scope, receive, send)
    finally:
        fill(shop, 0)
    grown = peak_memory() - before
    figure("R29", variant=f"{shop.variant} {accept}", n=rows, failures=int(grown >= 50), peak_megabytes=round(grown, 1))
    assert lines == rows + (accept == "text/csv")
    assert grown < 50


def fill(shop: Any, rows: int) -> None:
    """Put so many tags in place of all that there are, however long that takes."""
    name = shop.db.engine.name
    series = sa.select(sa.literal(1).label("i")).cte("series", recursive=True)
    series = series.union_all(sa.select(series.c.i + 1).where(series.c.i < (rows if name == "sqlite" else 1_000)))
    number: Any = series.c.i
    source: Any = series
    if name != "sqlite":  # MariaDB stops a recursion early
        thousands = series.alias()
        number = (thousands.c.i - 1) * 1_000 + series.c.i
        source = series.join(thousands, number <= rows)
    numbers = sa.select(number, sa.literal("name ") + sa.cast(number, sa.String(20))).select_from(source)
    engine = sa.create_engine(shop.db.engine.url)
    with engine.begin() as connection:
        tag = shop.models["Tag"].__table__
        connection.execute(sa.text("TRUNCATE tag CASCADE") if name == "postgresql" else tag.delete())
        if rows:
            connection.execute(tag.insert().from_select(["id", "name"], numbers))
    engine.dispose()


def test_slow_reads_of_a_stream_are_made_fewer_and_larger(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.insert("Tag", *({"id": number, "name": f"name {number}"} for number in range(1, 41)))
    monkeypatch.setattr(export, "CHUNK", 2)
    monkeypatch.setattr(export, "MOST_CHUNKS", 4)

    def rows_and_statements(*, slow: float) -> tuple[list[int], int]:
        monkeypatch.setattr(export, "SLOW", slow)
        with shop.statements() as executed:
            answer = shop.client.get("/tags?sort=-name", headers={"accept": "application/x-ndjson"})
        assert answer.status_code == 200
        return [json.loads(line)["id"] for line in answer.text.splitlines()], len(executed.texts)

    steady, many = rows_and_statements(slow=60)
    growing, few = rows_and_statements(slow=0)
    assert growing == steady
    assert len(set(steady)) == 40
    assert (many, few) == (21, 7)


def peak_memory(*, reset: bool = False) -> float:
    """The most memory that the process has had since the last reset, in MB (proc(5), VmHWM and clear_refs)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def test_a_csv_of_relations_is_refused(library: Any) -> None:
    response = library.client.get("/books?include=author", headers={"accept": "text/csv"})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html, text/csv;q=0.5, application/json;q=0.9", "application/json"),
        ("text/csv;q=0.9, application/json;q=0.1", "text/csv; charset=utf-8; header=present"),
        ("application/ndjson", "application/x-ndjson"),
        ("text/csv;q=bad", "application/json"),
        ("image/png", "application/json"),
    ],
)
def test_the_client_chooses_the_form(library: Any, accept: str, kind: str) -> None:
    assert library.client.get("/tags", headers={"accept": accept}).headers["content-type"] == kind


def test_one_page_is_one_statement(library: Any) -> None:
    for path, statements in (("/books", 1), ("/books/1", 1), ("/books?count=exact&sort=-title", 2)):
        with library.statements() as executed:
            assert library.client.get(path).status_code == 200
        assert len(executed.texts) == statements
        assert "hashed_password" not in executed.texts[0]
        assert "api_key" not in executed.texts[0]


def test_a_write_is_one_statement(shop: Any) -> None:
    returning = 1 if shop.db.engine.dialect.update_returning else 2
    with shop.statements() as executed:
        created = shop.client.post("/tags", json={"name": "a"})
    assert len(executed.texts) == 1
    for method, body, count in (("patch", {"name": "b"}, returning), ("delete", None, 1)):
        with shop.statements() as executed:
            response = shop.client.request(method, created.headers["location"], json=body)
        assert response.status_code == 200
        assert len(executed.texts) == count, executed.texts
    with shop.statements() as executed:
        assert shop.client.post("/tags", json=[{"name": f"t{n}"} for n in range(40)]).status_code == 201
    assert len(executed.texts) == 1
    with shop.statements() as executed:
        body = [{"name": f"t{n}"} for n in range(20, 60)]
        assert shop.client.post("/tags/-/upsert?on_conflict=name", json=body).status_code == 200
    assert len(executed.texts) == 1


def test_links_keep_the_rest_of_the_query(library: Any) -> None:
    response = library.client.get("/books?limit=2&title__contains=title 1&sort=-pages")
    target = urlsplit(links(response)["next"])
    assert target.path == "/books"
    assert "title__contains=title%201" in target.query
    assert "sort=-pages" in target.query


@pytest.mark.parametrize("sort", ["value", "-value", "value.nullsfirst", "-value.nullsfirst"])
@pytest.mark.parametrize("owned", [False, True])
def test_a_stream_or_owned_list_by_a_column_with_nulls_searches_the_index_from_its_place(
    sqlite_url: str, sort: str, owned: bool
) -> None:
    db = SQLAlchemy(sqlite_url)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int | None] = mapped_column(index=True)

    db.create_all()
    values = [None if number % 5 == 0 else number % 7 for number in range(3000)]
    with db.engine.begin() as connection:
        connection.execute(sa.insert(Item), [{"id": number + 1, "value": value} for number, value in enumerate(values)])
    app = FastAPI()

    def mine() -> Any:
        return Item.id > 0

    app.include_router(CRUDRouter(Item, db=db, use_async=False, scope_query=mine if owned else None))
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, *_more: Any) -> None:
        asked.append((text, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    with TestClient(app) as client:
        text = client.get("/item", params={"sort": sort}, headers={"accept": "application/x-ndjson"}).text
        rows = [json.loads(line) for line in text.splitlines()]
        if owned:
            url: str | None = f"/item?sort={sort}&limit=500&cursor="
            paged: list[Any] = []
            while url:
                answer = client.get(url)
                paged += answer.json()
                url = answer.links.get("next", {}).get("url")
            assert paged == rows
        assert client.portal is not None
        client.portal.call(db.adispose)
    sa.event.remove(db.engine, "before_cursor_execute", note)
    assert sorted(row["id"] for row in rows) == list(range(1, 3001))
    stored = [row["value"] for row in rows]
    present = sorted((value for value in values if value is not None), reverse=sort.startswith("-"))
    nulls = [None] * values.count(None)
    assert stored == (nulls + present if sort.endswith("nullsfirst") else present + nulls)
    with db.engine.connect() as connection:
        lists = [(text, given) for text, given in asked if "value" in text.partition("WHERE")[2].partition("ORDER")[0]]
        assert lists
        for text, given in lists:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)]
            assert any(step.startswith("SEARCH") for step in plan) and not any("B-TREE" in step for step in plan), plan
    db.dispose()
