"""What a caller does not own is not there: on every verb, in filters, relations and bulk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Header
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, postgrest
from tests.rest.conftest import owned_notes
from tests.support.client import TestClient

MINE = {"x-user": "1"}
THEIRS = {"x-user": "2"}


@pytest.fixture
def notes(shop: Any) -> Any:
    """Note 1 is mine, note 2 is theirs; both are in folder 1."""
    shop.insert("Folder", {"id": 1, "name": "shared"})
    shop.insert(
        "Note",
        {"id": 1, "owner_id": 1, "text": "mine", "slug": "m", "folder_id": 1},
        {"id": 2, "owner_id": 2, "text": "theirs", "slug": "t", "folder_id": 1},
    )
    return shop


def theirs(shop: Any) -> dict[str, Any]:
    response = shop.client.get("/notes/2", headers=THEIRS)
    assert response.status_code == 200
    row: dict[str, Any] = response.json()
    return row


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "/notes/2", None, 404),
        ("get", "/notes/2?fields=id", None, 404),
        ("get", "/notes/2?include=folder", None, 404),
        ("head", "/notes/2", None, 404),
        ("patch", "/notes/2", {"text": "x"}, 404),
        ("put", "/notes/2", {"text": "x"}, 404),
        ("delete", "/notes/2", None, 404),
        ("post", "/notes/-/upsert?on_conflict=slug", {"slug": "t", "text": "x"}, 404),
        ("post", "/notes/-/upsert?on_conflict=id", {"id": 2, "text": "x"}, 404),
        ("post", "/notes/-/upsert?on_conflict=slug", [{"slug": "m", "text": "x"}, {"slug": "t", "text": "x"}], 404),
        ("patch", "/notes/1", {"owner_id": 2}, 422),
        ("patch", "/notes?text=mine", {"owner_id": 2}, 422),
    ],
)
def test_another_owners_row_cannot_be_reached(notes: Any, method: str, path: str, body: Any, status: int) -> None:
    before = theirs(notes)
    mine = notes.client.get("/notes/1", headers=MINE).json()
    response = notes.client.request(method, path, headers=MINE, json=body)
    assert response.status_code == status
    assert b"theirs" not in response.content
    assert theirs(notes) == before
    assert notes.client.get("/notes/1", headers=MINE).json() == mine


@pytest.mark.parametrize(
    "path",
    [
        "/notes",
        "/notes?offset=0&count=exact",
        "/notes?owner_id=2",
        "/notes?id__in=1,2",
        "/notes?q=their",
        "/notes?include=folder.notes",
        "/notes?folder.notes.text=theirs",
        "/folders?include=notes",
        "/folders/1?include=notes",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_lists_and_relations_hold_only_the_callers_rows(notes: Any, path: str, accept: str) -> None:
    response = notes.client.get(path, headers={**MINE, "accept": accept})
    assert response.status_code == 200, response.text
    assert "theirs" not in response.text
    assert response.headers.get("x-total-count", "1") == "1"


def test_filters_over_relations_find_only_the_callers_rows(notes: Any) -> None:
    assert len(notes.client.get("/folders?notes.text=mine", headers=MINE).json()) == 1
    assert notes.client.get("/folders?notes.text=theirs", headers=MINE).json() == []
    assert notes.client.get('/folders?filter={"notes.text":"theirs"}', headers=MINE).json() == []
    assert notes.client.get("/folders?notes.text=theirs").status_code == 401
    assert notes.client.get("/folders?include=notes").status_code == 401
    assert notes.client.get("/folders").status_code == 200


def test_bulk_changes_touch_only_the_callers_rows(notes: Any) -> None:
    assert notes.client.patch("/notes?id__gt=0", headers=MINE, json={"owner_id": 1}).json() == {"affected": 1}
    before = theirs(notes)
    assert notes.client.patch("/notes?id__gt=0", headers=MINE, json={"text": "x"}).json() == {"affected": 1}
    assert notes.client.delete("/notes?id__gt=0", headers=MINE).json() == {"affected": 1}
    assert theirs(notes) == before


@pytest.mark.parametrize("given", [{}, {"owner_id": 2}])
def test_a_new_row_belongs_to_the_caller(notes: Any, given: dict[str, int]) -> None:
    for path in ("/notes", "/notes/-/upsert?on_conflict=slug"):
        response = notes.client.post(path, headers=MINE, json={"text": "new", "slug": "n", **given})
        assert response.status_code in (200, 201), response.text
        assert response.json()["owner_id"] == 1
        assert notes.client.delete(f"/notes/{response.json()['id']}", headers=MINE).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/notes"),
        ("post", "/notes"),
        ("get", "/notes/1"),
        ("patch", "/notes/1"),
        ("put", "/notes/1"),
        ("delete", "/notes/1"),
        ("patch", "/notes?id=1"),
        ("delete", "/notes?id=1"),
        ("post", "/notes/-/upsert?on_conflict=slug"),
    ],
)
def test_nobody_gets_nothing(notes: Any, method: str, path: str) -> None:
    with notes.statements() as executed:
        response = notes.client.request(method, path, headers={"content-type": "application/json"})
    assert response.status_code == 401
    assert response.json()["code"] == "unauthorized"
    assert executed.texts == []


@pytest.fixture
def drawers(database_url: str) -> Iterator[Any]:
    """Folders with owners, and papers in them that belong to whom the folder does not say."""
    db = SQLAlchemy(database_url)

    class Folder(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]

    class Paper(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(sa.String(10), unique=True)
        folder_id: Mapped[int | None] = mapped_column(sa.ForeignKey("folder.id"))

    db.create_all()
    with db(commit_on_exit=True):
        db.session.add_all([Folder(id=1, owner_id=1), Folder(id=2, owner_id=2)])
    app = FastAPI()
    app.include_router(CRUDRouter(Folder, db=db, prefix="/folders", scope_query=owned_notes(Folder)))
    app.include_router(CRUDRouter(Paper, db=db, prefix="/papers", bulk=True))
    with TestClient(app) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/papers", {"code": "b", "folder_id": 2}),
        ("POST", "/papers", [{"code": "b", "folder_id": 1}, {"code": "c", "folder_id": 2}]),
        ("PATCH", "/papers/1", {"folder_id": 2}),
        ("PUT", "/papers/1", {"code": "a", "folder_id": 2}),
        ("POST", "/papers/-/upsert?on_conflict=code", {"code": "a", "folder_id": 2}),
        ("PATCH", "/papers?code=a", {"folder_id": 2}),
    ],
)
def test_a_foreign_key_to_another_owners_row_is_one_to_no_row(drawers: Any, method: str, path: str, body: Any) -> None:
    mine = drawers.post("/papers", headers=MINE, json={"code": "a", "folder_id": 1})
    assert mine.status_code == 201, mine.text
    theirs = drawers.request(method, path, headers=MINE, json=body)
    absent = drawers.request(method, path, headers=MINE, json=json.loads(json.dumps(body).replace("2", "99")))
    assert theirs.status_code == absent.status_code == 409
    assert theirs.json()["code"] == absent.json()["code"] == "foreign_key_violation"
    assert drawers.get("/papers").json() == [{**mine.json(), "folder_id": 1}]


def test_a_link_that_the_caller_does_not_see_leads_nowhere(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    user = sa.Table("user", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    team = sa.Table("team", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    member = sa.Table(
        "member",
        db.metadata,
        sa.Column("team_id", sa.ForeignKey("team.id"), primary_key=True),
        sa.Column("user_id", sa.ForeignKey("user.id"), primary_key=True),
    )

    def own(x_user: int = Header()) -> Any:
        return member.c.user_id == x_user

    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(user), [{"id": 1}, {"id": 2}])
        connection.execute(sa.insert(team), [{"id": 1}, {"id": 2}])
        connection.execute(
            sa.insert(member),
            [{"team_id": 1, "user_id": 1}, {"team_id": 1, "user_id": 2}, {"team_id": 2, "user_id": 2}],
        )
    app = FastAPI()
    app.include_router(CRUDRouter(user, db=db, prefix="/users"))
    app.include_router(CRUDRouter(team, db=db, prefix="/teams"))
    app.include_router(CRUDRouter(member, db=db, prefix="/members", scope_query=own))
    postgrest.mount(app, db=db, tables=[team, user, member])
    postgrest.mount(app, db=db, tables=[team, user], prefix="/without")
    with TestClient(app) as client:
        for path in ("/rest/v1/team?select=id,user(id)&order=id", "/teams?include=user&sort=id"):
            assert client.get(path).status_code in (400, 422)
            rows = client.get(path, headers=MINE).json()
            assert [(row["id"], [item["id"] for item in row["user"]]) for row in rows] == [(1, [1]), (2, [])]
        for path in ("/rest/v1/team?select=id,user!inner()&user.id=eq.2", "/teams?user.id=2"):
            assert client.get(path, headers=MINE).json() == []
        assert client.get("/teams?user.id=1", headers=MINE).json() == [{"id": 1}]
        assert client.get("/without/team?select=id,user(id)").json()["code"] == "PGRST200"
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()
