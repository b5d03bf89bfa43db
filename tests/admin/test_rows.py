"""Rows in the admin: lists, searches, filters and forms, on every database, at a known number of statements."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from tests.admin.apps.library import CANARY
from tests.admin.conftest import Desk, everybody

Make = Callable[..., Any]


@contextmanager
def statements(desk: Desk) -> Iterator[list[str]]:
    """The statements that reach the database of the library."""
    found: list[str] = []

    def note(connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if connection.engine.url.database == desk.library.db.url.database:
            found.append(f"{'async' if connection.dialect.is_async else 'sync'}: {statement}")

    event.listen(sa.Engine, "before_cursor_execute", note)
    yield found
    event.remove(sa.Engine, "before_cursor_execute", note)


def cells(page: Any, column: str) -> list[str]:
    """The texts of one column of a list."""
    found = re.findall(rf'<td data-column="{column}"[^>]*>(.*?)</td>', page.text, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in found]


def row_of(desk: Desk, model: Any, *key: Any) -> Any:
    with desk.library.db():
        return desk.library.db.session.get(model, key if len(key) > 1 else key[0])


def test_lists_and_forms_work_on_every_database(database_url: str, make_desk: Make) -> None:
    with make_desk(database_url, write=True, auth=everybody) as desk:
        desk.get("/")
        page = desk.get("/book/list?sort=title__desc&page_size=10")
        assert cells(page, "title")[:3] == ["Book 9", "Book 8", "Book 7"]
        assert cells(page, "author")[0] == "Author 9"
        assert "of 60 entries" in page.text
        assert cells(desk.get("/book/list?q=book 42"), "title") == ["Book 42"]
        assert cells(desk.get("/book/list?q=17"), "title") == ["Book 16", "Book 17"]
        found = desk.get('/book/list?filter=(price__gte=14 AND author__icontains="author 1")')
        assert sorted(cells(found, "title")) == ["Book 56", "Book 57", "Book 58", "Book 59"]
        form = desk.form("/book/edit?pk=3")
        values = {
            **form,
            "title": "A new title",
            "author": "7",
            "published": "2026-05-06",
            "price": "12.50",
            "available": "on",
            "kind": "poems",
            "notes": "line 1\r\nline 2",
            "extra": '{"pages": [1, 2]}',
            "added": "2026-01-02T03:04:05.678901" if "mysql" not in database_url else "2026-01-02T03:04:06",
        }
        answer = desk.post("/book/edit?pk=3", values, follow_redirects=False)
        assert answer.status_code == 303, re.findall("invalid-feedback[^<]*<", answer.text)
        book = row_of(desk, desk.library.Book, 3)
        assert (book.title, book.author_id, str(book.price), book.available) == ("A new title", 7, "12.50", True)
        assert (book.kind.value, book.notes, book.extra) == ("poems", "line 1\nline 2", {"pages": [1, 2]})
        created = desk.post("/book/create", {"title": "Made here", "author": "2"}, follow_redirects=False)
        assert created.status_code == 303
        assert cells(desk.get("/book/list?q=made"), "title") == ["Made here"]
        assert desk.act("/_api/book/row-action?name=delete&pk=61").json()["redirect"].endswith("/book/list")
        assert row_of(desk, desk.library.Book, 61) is None
        broken = desk.act("/_api/author/row-action?name=delete&pk=1")
        assert broken.status_code == 400
        assert "refer" in broken.json()["msg"]
        twice = desk.post("/reader/create", {"first_name": "x", "last_name": "y", "email": "grace@example.org"})
        assert twice.status_code == 422
        assert "SQL" not in twice.text.replace("FastAPI-SQL", "")


def test_a_list_costs_the_same_number_of_statements_whatever_its_length(
    shared_desk: Desk, figure: Callable[..., None]
) -> None:
    counts: dict[int, int] = {}
    for size in (10, 50):
        with statements(shared_desk) as found:
            assert len(cells(shared_desk.get(f"/loan/list?page_size={size}"), "book")) == 2
            assert len(cells(shared_desk.get(f"/book/list?page_size={size}"), "author")) == size
        counts[size] = len([text for text in found if "SELECT" in text])
    assert counts[10] == counts[50] == 6
    figure("N+1", variant="admin list, statements for 10 and 50 rows", n=counts[10], failures=0)


def test_related_rows_are_named_and_linked(shared_desk: Desk) -> None:
    page = shared_desk.get("/book/list?page_size=10")
    assert cells(page, "author")[0] == "Author 0"
    assert "/admin/author/detail?pk=1" in page.text
    assert cells(shared_desk.get("/loan/list"), "reader") == ["Grace Hopper", "Grace Hopper"]
    author = shared_desk.get("/author/detail?pk=1")
    (back,) = re.findall(r'list-group-item-action"\s+href="([^"]+)"', author.text)
    assert sorted(cells(shared_desk.client.get(html.unescape(back)), "title")) == ["Book 0", "Book 20", "Book 40"]
    found = shared_desk.get("/_api/author/relation-lookup?q=author 1&limit=3").json()
    assert [item["_meta"]["select2"]["result"] for item in found["items"]] == [
        "<span>Author 1</span>",
        "<span>Author 10</span>",
        "<span>Author 11</span>",
    ]
    assert found["total"] == 11


def test_a_composite_key_is_read_changed_and_deleted(desk: Desk) -> None:
    assert desk.get("/loan/detail?pk=1,1").status_code == 200
    form = desk.form("/loan/edit?pk=1,1")
    answer = desk.post("/loan/edit?pk=1,1", {**form, "due": "2026-09-09", "note": ""}, follow_redirects=False)
    assert answer.status_code == 303
    loan = row_of(desk, desk.library.Loan, 1, 1)
    assert (str(loan.due), loan.note) == ("2026-09-09", None)
    made = desk.post("/loan/create", {"book": "5", "reader": "2", "due": "2026-01-01"}, follow_redirects=False)
    assert made.status_code == 303
    assert row_of(desk, desk.library.Loan, 5, 2) is not None
    assert desk.act("/_api/loan/action?name=delete&pks=1,1&pks=2,1").status_code == 200
    assert cells(desk.get("/loan/list"), "book") == ["Book 4"]
    for pk in ("1", "1,2,3", "x,y", "9,9", "", "1,%00"):
        assert desk.get(f"/loan/detail?pk={pk}").status_code == 404


def test_a_table_without_a_key_is_a_list_and_nothing_else(desk: Desk) -> None:
    page = desk.get("/visit/list")
    assert cells(page, "page") == ["/", "/"]
    assert "data-sa-href" not in page.text
    assert "/visit/create" not in page.text
    for path in ("/visit/detail?pk=1", "/visit/edit?pk=1", "/visit/create"):
        assert desk.get(path).status_code == 403
    assert desk.act("/_api/visit/row-action?name=delete&pk=1").status_code == 400


def test_secret_columns_are_nowhere(desk: Desk, figure: Callable[..., None]) -> None:
    seen = 0
    for path in (
        "/reader/list",
        "/reader/detail?pk=1",
        "/reader/edit?pk=1",
        "/reader/create",
        "/_api/reader/relation-lookup",
        "/loan/list",
        "/_changes",
    ):
        text = desk.get(path).text
        assert CANARY not in text
        assert "hashed" not in text.lower()
        seen += 1
    for query in ("sort=hashed_password__asc", f"q={CANARY}"):
        page = desk.get(f"/reader/list?{query}")
        assert page.status_code == 200
        assert CANARY not in "".join(re.findall(r"<td.*?</td>", page.text, re.DOTALL))
        assert len(cells(page, "email")) == (2 if "sort" in query else 0)
        seen += 1
    assert desk.get(f"/reader/list?filter=hashed_password__eq={CANARY}").status_code == 400
    export = desk.post("/_api/reader/action?name=export", {"scope": "page", "format": "csv"})
    assert CANARY not in export.text
    form = desk.form("/reader/edit?pk=1")
    desk.post("/reader/edit?pk=1", {**form, "first_name": "New", "hashed_password": "overwritten"})
    reader = row_of(desk, desk.library.Reader, 1)
    assert (reader.first_name, reader.hashed_password) == ("New", CANARY)
    assert CANARY not in desk.get("/_changes").text
    figure("S3", variant="admin: a secret column", n=seen + 4, failures=0)


def test_nothing_can_be_changed_unless_write_was_asked_for(make_desk: Make) -> None:
    with make_desk() as desk:
        page = desk.get("/book/list")
        assert cells(page, "title")[:1] == ["Book 0"]
        for word in ("/book/create", "/book/edit", "Delete"):
            assert word not in page.text
        assert desk.get("/book/edit?pk=1").status_code == 403
        assert desk.post("/book/edit?pk=1", {"title": "x"}).status_code == 403
        assert desk.post("/book/create", {"title": "x", "author": "1"}).status_code == 403
        assert desk.act("/_api/book/action?name=delete&pks=1").status_code == 400
        assert desk.act("/_api/book/row-action?name=delete&pk=1").status_code == 400
        assert desk.post("/_api/book/action?name=export", {"scope": "page", "format": "csv"}).status_code == 200
        assert row_of(desk, desk.library.Book, 1).title == "Book 0"
        assert desk.get("/_changes").text.count("login") >= 1


def test_an_action_is_told_by_its_name_alone(desk: Desk) -> None:
    assert desk.act("/_api/book/action?name=delete&pks=60&x=name=export").status_code == 200
    assert row_of(desk, desk.library.Book, 60) is None
    for name in ("edit", "view", "nothing"):  # links, which nobody sends
        answer = desk.act(f"/_api/book/row-action?name={name}&pk=3")
        assert (answer.status_code, answer.json()) == (400, {"msg": "There is no such action."})


def test_a_row_that_is_named_twice_is_deleted_once(desk: Desk) -> None:
    assert desk.act("/_api/book/action?name=delete&pks=59&pks=59").status_code == 200
    assert row_of(desk, desk.library.Book, 59) is None
    assert "59; 59" not in desk.get("/_changes").text


def test_a_row_that_is_deleted_meanwhile_is_a_404_and_not_made_anew(desk: Desk) -> None:
    form = desk.form("/note/edit?pk=1")
    with desk.library.db(commit_on_exit=True):
        desk.library.db.session.execute(sa.delete(desk.library.Note))
    assert desk.post("/note/edit?pk=1", {**form, "text": "late"}).status_code == 404
    assert desk.act("/_api/note/row-action?name=delete&pk=1").status_code == 400
    assert row_of(desk, desk.library.Note, 1) is None


def test_a_row_that_somebody_changed_meanwhile_is_not_overwritten(desk: Desk) -> None:
    mine, theirs = desk.form("/author/edit?pk=1"), desk.form("/author/edit?pk=1")
    assert desk.post("/author/edit?pk=1", {**theirs, "name": "Theirs"}, follow_redirects=False).status_code == 303
    for _ in range(2):
        answer = desk.post("/author/edit?pk=1", {**mine, "name": "Mine"})
        assert answer.status_code == 422
        assert "has changed this row since you opened it" in answer.text
    assert row_of(desk, desk.library.Author, 1).name == "Theirs"


def test_a_form_sets_only_what_was_typed_over(desk: Desk) -> None:
    with desk.library.db(commit_on_exit=True):
        author = desk.library.db.session.get(desk.library.Author, 2)
        author.name, author.born = "", None
    form = desk.form("/author/edit?pk=2")
    with statements(desk) as found:
        answer = desk.post("/author/edit?pk=2", {**form, "name": "", "born": "2001-02-03"}, follow_redirects=False)
    assert answer.status_code == 303
    (update,) = [text for text in found if "UPDATE" in text]
    assert "born" in update
    assert "name=" not in update.partition("WHERE")[0]
    assert (row_of(desk, desk.library.Author, 2).name, str(row_of(desk, desk.library.Author, 2).born)) == (
        "",
        "2001-02-03",
    )


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"title": "", "author": "1"}, "title"),
        ({"title": "x", "author": ""}, "author"),
        ({"title": "x", "author": "nobody"}, "author"),
        ({"title": "x" * 101, "author": "1"}, "title"),
        ({"title": "a\u0000b", "author": "1"}, "title"),
        ({"title": "x", "author": "1", "price": "a lot"}, "price"),
        ({"title": "x", "author": "1", "price": "1.234"}, "price"),
        ({"title": "x", "author": "1", "published": "2026-02-31"}, "published"),
        ({"title": "x", "author": "1", "kind": "song"}, "kind"),
        ({"title": "x", "author": "1", "extra": "{"}, "extra"),
        ({"title": "x", "author": "1", "added": "yesterday"}, "added"),
    ],
)
def test_a_value_that_cannot_be_is_told_beside_its_field(shared_desk: Desk, values: dict[str, str], field: str) -> None:
    answer = shared_desk.post("/book/create", values)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    kept = html.escape(values["title"][:5]).replace("\u0000", "")
    assert not kept or kept[:1] in answer.text
    with shared_desk.library.db():
        count = sa.select(sa.func.count()).select_from(shared_desk.library.Book)
        assert shared_desk.library.db.session.scalar(count) == 60


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ('title__eq="Book 3"', 1),
        ('title__startswith="Book 1"', 11),
        ("price__between=1..2", 5),
        ("published__lt=2000-01-04", 3),
        ("available__true", 60),
        ("available__false", 0),
        ("kind__in=novel,poems", 60),
        ("notes__present", 60),
        ("author__is=3", 3),
        ("(id__lte=5 OR id__gt=58)", 7),
        ("(id__lte=5 AND (id__eq=2 OR id__eq=3))", 2),
        ("added__gte=2026-01-02T03:04", 60),
    ],
)
def test_a_filter_finds_what_it_says(shared_desk: Desk, condition: str, found: int) -> None:
    page = shared_desk.get(f"/book/list?page_size=100&filter={quote(condition)}")
    assert page.status_code == 200
    assert len(cells(page, "title")) == found


HOSTILE = (
    "sort=nothing__asc",
    "sort=title__sideways",
    "sort=title",
    "sort=id;drop table book__asc",
    "page=-1",
    "page=999999",
    "page=x",
    "page_size=7",
    "page_size=1000000",
    "q=%00",
    "q=%25_%5C",
    "q=" + "x" * 500,
    "cols=nothing",
    "filter=nothing",
    "filter=title__eq",
    "filter=id__eq=one",
    "filter=id__eq=99999999999999999999999",
    "filter=title__icontains=%00",
    "filter=title__between=a..b",
    "filter=published__lt=2026-99-99",
    "filter=title__eq=%27%20OR%201=1%20--",
    "filter=" + "(" * 500,
    "filter=" + "(id__eq=1 AND " * 30 + "id__eq=1",
    "filter=" + " AND ".join(["id__eq=1"] * 500),
    "filter=price__between=1",
    "filter=author__is=%ff",
    "filter=kind__in=song",
)


def test_a_hostile_query_is_answered_without_an_error_of_the_server(
    shared_desk: Desk, figure: Callable[..., None]
) -> None:
    with statements(shared_desk) as found:
        for query in HOSTILE:
            answer = shared_desk.get(f"/book/list?{query}")
            assert answer.status_code in (200, 400), query
            assert "Traceback" not in answer.text
    assert not any("drop table" in text or "OR 1=1" in text for text in found)
    figure("S8", variant="admin: hostile sort, filter, search", n=len(HOSTILE), failures=0)


def test_a_database_that_cannot_be_reached_is_a_page_that_says_so(make_desk: Make, postgres_url: str) -> None:
    with make_desk(postgres_url, auth=everybody) as desk:
        desk.library.db.init(sa.make_url(postgres_url).set(port=9).render_as_string(hide_password=False))
        answer = desk.get("/book/list")
        assert answer.status_code == 503
        assert "Traceback" not in answer.text


def test_async_and_sync_work_through_one_session_for_each_request(make_desk: Make, postgres_url: str) -> None:
    with make_desk(postgres_url, write=True, auth=everybody) as desk:
        desk.get("/")
        form = desk.form("/author/edit?pk=1")
        with statements(desk) as found:
            answer = desk.post("/author/edit?pk=1", {**form, "name": "By async"}, follow_redirects=False)
        assert answer.status_code == 303
        assert found
        assert all(text.startswith("async: ") for text in found)
        assert row_of(desk, desk.library.Author, 1).name == "By async"
