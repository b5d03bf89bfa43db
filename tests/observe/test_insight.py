"""`Insight(app)`: Server-Timing after the commit, N+1 warnings, and a page for development and this machine alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import ConfigurationError
from fastapi_sqlalchemy.observe.insight import Insight
from fastapi_sqlalchemy.observe.nplusone import NPlusOneWarning
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door

CANARY = "canary-7391"
LOCAL: dict[str, Any] = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 50000)}


def timing(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r'(\w+);dur=([\d.]+);desc="[^"]*"', header)}


def statements(header: str) -> int:
    found = re.search(r'desc="(\d+) statements?"', header)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_the_header_tells_of_the_commit_that_came_just_before_the_first_byte(database_url: str, door: Door) -> None:
    db = SQLAlchemy(database_url, commit_on_exit=True)

    class Note(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(80))

    app = door.app(db)
    Insight(app, debug=True)
    door.route(app, db, "/notes", lambda session: session.add(Note(text="x")))
    with TestClient(app) as client:
        response = client.post("/notes")
    assert response.status_code == 200
    header = response.headers["server-timing"]
    assert statements(header) == 1
    found = timing(header)
    assert set(found) == {"db", "pool", "commit", "total"}
    assert found["db"] > 0
    assert found["commit"] > 0
    assert found["db"] + found["pool"] + found["commit"] <= found["total"] + 0.04  # each is rounded
    db.dispose()


@pytest.mark.parametrize("by", ["lifespan", "middleware added later"])
def test_the_order_in_which_middleware_is_added_does_not_matter(database_url: str, by: str) -> None:
    db = SQLAlchemy(database_url, commit_on_exit=True)

    class Note(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    app = FastAPI(lifespan=db.lifespan) if by == "lifespan" else FastAPI()
    Insight(app, debug=True)
    if by != "lifespan":
        app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/notes")
    def add() -> None:
        db.session.add(Note())

    with TestClient(app) as client:
        assert timing(client.post("/notes").headers["server-timing"])["commit"] > 0
    db.dispose()


def test_generated_routes_have_the_header(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    class Note(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(80))

    app = FastAPI(lifespan=db.lifespan)
    app.include_router(CRUDRouter(Note, db=db, prefix="/notes"))
    Insight(app, debug=True)
    with TestClient(app) as client:
        created = client.post("/notes", json={"text": "x"})
        assert created.status_code == 201
        assert timing(created.headers["server-timing"])["commit"] > 0
        assert statements(client.get("/notes/1").headers["server-timing"]) == 1
        assert statements(client.get("/notes?count=exact").headers["server-timing"]) == 2
    db.dispose()


@contextmanager
def library(url: str, *, debug: bool | None = True, app_debug: bool = False, **options: Any) -> Iterator[Any]:
    """An application with authors and their books, an `Insight` and a client on this machine."""
    db = SQLAlchemy(url)

    class Author(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(80))
        books: Mapped[list[Book]] = relationship()

    class Book(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))

    globals()["Book"] = Book
    db.create_all()
    with db(commit_on_exit=True):
        db.session.add_all([Author(name=f"a{n}", books=[Book()]) for n in range(3)])
    app = FastAPI(debug=app_debug)
    app.add_middleware(DBSessionMiddleware, db=db)
    insight = Insight(app, debug=debug, **options)

    @app.get("/one-by-one")
    def one_by_one() -> int:
        return sum(len(author.books) for author in db.session.scalars(sa.select(Author)).all())

    @app.get("/find")
    def find(name: str, times: int = 1) -> None:
        for _ in range(2):
            db.session.execute(sa.select(Author.id).where(Author.name == name * times)).all()

    @app.get("/afind")
    async def find_async(name: str) -> None:
        (await db.async_session.execute(sa.select(Author.id).where(Author.name == name))).all()

    @app.get("/fail")
    def fail() -> None:
        db.session.execute(sa.text("SELECT * FROM missing"))

    with TestClient(app, **LOCAL) as client:
        yield client, insight
    db.dispose()


def test_the_page_shows_a_request_with_its_statements_duplicates_and_time_line(database_url: str) -> None:
    with library(database_url) as (client, insight):
        assert client.get("/find", params={"name": CANARY}).status_code == 200
        page = client.get("/debug/db")
        assert "GET /find" in page.text
        page = client.get("/debug/db/1")
        assert page.text.count("<rect") >= 2
        assert "tests/observe/test_insight.py:" in page.text
        assert "the same as 1" in page.text
        assert CANARY not in page.text
        twin = client.get("/debug/db/1.json").json()
        assert (twin["path"], twin["status"], twin["statements"]) == ("/find", 200, 2)
        assert [one["repeats"] for one in twin["details"]] == [None, 1]
        assert [one["rows"] for one in twin["details"]] == [0, 0]
        assert "parameters" not in twin["details"][0]
        assert [seen.number for seen in insight.log] == [1]  # the page does not count itself
        assert client.get("/debug/db/2").status_code == 404


def test_parameters_are_shown_where_that_was_asked_for(memory_url: str) -> None:
    with library(memory_url, parameters=True) as (client, _):
        client.get("/find", params={"name": CANARY})
        assert CANARY in client.get("/debug/db/1").text
        assert CANARY in client.get("/debug/db/1.json").json()["details"][0]["parameters"]


@pytest.mark.parametrize("path", ["/find", "/afind"])
def test_the_page_explains_what_was_recorded_and_shows_no_parameter(database_url: str, path: str) -> None:
    with library(database_url) as (client, _):
        client.get(path, params={"name": CANARY})
        plan = client.post("/debug/db/1/1/explain.json")
        assert plan.status_code == 200
        assert plan.json()["full_scans"] == ["author"]
        page = client.post("/debug/db/1/1/explain")
        assert "Read as a whole: author" in page.text
        assert CANARY not in plan.text + page.text
        assert client.post("/debug/db/1/9/explain").status_code == 404
        assert client.get("/debug/db/1/1/explain").status_code == 405


def test_another_site_cannot_ask_for_a_plan(memory_url: str) -> None:
    with library(memory_url) as (client, _):
        client.get("/find", params={"name": "x"})
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.test"},
        ):
            assert client.post("/debug/db/1/1/explain", headers=headers).status_code == 403
        assert client.post("/debug/db/1/1/explain", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_only_this_machine_sees_the_page_and_only_by_its_own_name(memory_url: str) -> None:
    with library(memory_url) as (client, insight):
        assert client.get("/debug/db").status_code == 200
        for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"Host": "evil.test"}):
            assert client.get("/debug/db", headers=headers).status_code == 403
            assert client.get("/debug/db.json", headers=headers).status_code == 403
        stranger = TestClient(client.app, base_url="http://127.0.0.1:8000", client=("192.0.2.1", 50000))
        for path in ("/debug/db", "/debug/db.json", "/debug/db/1", "/debug/db/style.css"):
            assert stranger.get(path).status_code == 403
        assert stranger.post("/debug/db/1/1/explain").status_code == 403
        assert len(insight.log) == 0
    with library(memory_url, loopback_only=False) as (client, _):
        stranger = TestClient(client.app, base_url="https://staging.test", client=("192.0.2.1", 50000))
        assert stranger.get("/debug/db").status_code == 200


def test_the_page_has_a_strict_policy_and_nothing_from_outside(memory_url: str) -> None:
    with library(memory_url) as (client, _):
        client.get("/find", params={"name": "x"})
        for path in ("/debug/db", "/debug/db/1"):
            page = client.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["cache-control"] == "no-store"
            assert not re.search(r"<script|style=|\son\w+=|https?://(?!www\.w3\.org/2000/svg)", page.text)
        assert client.get("/debug/db/style.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("debug", "app_debug", "is_on"), [(None, False, False), (None, True, True), (False, True, False)]
)
def test_without_debug_nothing_is_recorded_and_the_page_is_not_there(
    memory_url: str, debug: bool | None, app_debug: bool, is_on: bool
) -> None:
    with library(memory_url, debug=debug, app_debug=app_debug) as (client, insight):
        response = client.get("/find", params={"name": "x"})
        assert ("server-timing" in response.headers) is is_on
        assert client.get("/debug/db").status_code == (200 if is_on else 404)
        assert len(insight.log) == int(is_on)


def test_the_header_alone_can_be_had_without_debug(memory_url: str) -> None:
    with library(memory_url, debug=False, server_timing=True) as (client, insight):
        assert statements(client.get("/find", params={"name": "x"}).headers["server-timing"]) == 2
        assert client.get("/debug/db").status_code == 404
        assert len(insight.log) == 0


def test_loads_one_by_one_are_warned_of_and_on_the_page(database_url: str) -> None:
    with library(database_url) as (client, _):
        with pytest.warns(NPlusOneWarning, match=r"select\(Author\)\.options\(selectinload\(Author\.books\)\)"):
            assert client.get("/one-by-one").json() == 3
        assert "selectinload(Author.books)" in client.get("/debug/db/1").text
        (found,) = client.get("/debug/db/1.json").json()["nplusone"]
        assert "tests/observe/test_insight.py:" in found
    with library(database_url, nplusone=False) as (client, _), warnings.catch_warnings():
        warnings.simplefilter("error")
        client.get("/one-by-one")
        assert client.get("/debug/db.json").json()["requests"][0]["nplusone_found"] == 1


def test_a_request_that_failed_is_kept_with_the_error_of_its_statement(database_url: str) -> None:
    with library(database_url) as (client, _):
        quiet = TestClient(client.app, raise_server_exceptions=False, **LOCAL)
        assert quiet.get("/fail").status_code == 500
        twin = client.get("/debug/db/1.json").json()
        assert twin["status"] == 500
        assert twin["details"][0]["error"] is not None


def test_the_memory_is_bounded(memory_url: str) -> None:
    with library(memory_url, keep=2) as (client, insight):
        for number in range(4):
            client.get("/find", params={"name": f"{number}", "times": 50_000})
        assert [seen.number for seen in insight.log] == [4, 3]
        assert [statement.parameters for statement in next(iter(insight.log)).statements] == [("3" * 50_000,)] * 2
        client.get("/find", params={"name": "x", "times": 70_000})
        assert [statement.parameters for statement in next(iter(insight.log)).statements] == [None, None]
        refused = client.post("/debug/db/5/1/explain.json")
        assert refused.status_code == 409
        assert "too large" in refused.json()["error"]


def test_the_page_is_found_below_a_root_path(memory_url: str) -> None:
    with library(memory_url) as (client, _):
        below = TestClient(client.app, root_path="/api", **LOCAL)
        below.get("/find", params={"name": "x"})
        page = below.get("/debug/db")
        assert "href='/api/debug/db/1'" in page.text
        assert below.get("/api/debug/db/1").status_code == 200


def test_what_it_cannot_do_is_refused(memory_url: str) -> None:
    with library(memory_url) as (client, _), pytest.raises(ConfigurationError, match="started already"):
        Insight(client.app)
    for options in ({"page": "debug"}, {"page": "/"}, {"keep": 0}):
        with pytest.raises(ConfigurationError):
            Insight(FastAPI(), **options)  # type: ignore[arg-type]
