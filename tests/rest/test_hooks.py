"""Hooks around every operation, dependencies by operation, and models whose Python side must see a change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.models.mixins import SoftDeleteMixin, TimestampMixin, UUIDKeyMixin, VersionMixin
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient


class Journal:
    """Every hook, noting what it was given."""

    def __init__(self, *, awaiting: bool) -> None:
        self.entries: list[tuple[Any, ...]] = []
        for operation in ("create", "update", "replace", "delete", "upsert"):
            for when in ("before", "after"):
                setattr(self, f"{when}_{operation}", self.hook(f"{when}_{operation}", awaiting=awaiting))
        self.after_read = self.reading(awaiting=awaiting)

    def hook(self, name: str, *, awaiting: bool) -> Any:
        def note(session: Any, given: Any) -> None:
            found = given.get("name") if isinstance(given, dict) else given.name
            self.entries.append((name, found, session.execute(sa.text("SELECT 1")).scalar()))
            if isinstance(given, dict) and given.get("name") == "refused":
                raise HTTPException(403, "Not that name.")
            if isinstance(given, dict) and name.startswith("before") and "name" in given:
                given["name"] = given["name"].strip()

        async def note_async(session: Any, given: Any) -> None:
            await asyncio.sleep(0)
            if isinstance(given, dict) and given.get("name") == "refused":
                raise HTTPException(403, "Not that name.")
            self.entries.append((name, given["name"] if isinstance(given, dict) else given.name, 1))

        return note_async if awaiting else note

    def reading(self, *, awaiting: bool) -> Any:
        def note(session: Any, rows: list[dict[str, Any]]) -> None:
            for row in rows:
                row["shouted"] = row["name"].upper()

        async def note_async(session: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            await asyncio.sleep(0)
            return [{**row, "shouted": row["name"].upper()} for row in rows]

        return note_async if awaiting else note


@pytest.mark.parametrize("awaiting", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("kind", ["model", "table"])
def test_hooks_run_in_the_transaction_of_their_operation(shop: Any, awaiting: bool, kind: str) -> None:
    journal = Journal(awaiting=awaiting)
    model = shop.models["Tag"] if kind == "model" else shop.models["Tag"].__table__
    app = FastAPI()
    app.include_router(CRUDRouter(model, db=shop.db, prefix="/tags", hooks=journal, use_async=shop.use_async))
    with TestClient(app) as client:
        created = client.post("/tags", json={"name": "a"})
        path = created.headers["location"]
        assert client.patch(path, json={"name": "b"}).json()["name"] == "b"
        assert client.put(path, json={"name": "c"}).json()["name"] == "c"
        assert client.post("/tags/-/upsert?on_conflict=name", json={"name": "c"}).status_code == 200
        assert client.get(path).json()["shouted"] == "C"
        assert client.get("/tags").json()[0]["shouted"] == "C"
        assert client.delete(path).status_code == 200
        assert [entry[0] for entry in journal.entries] == [
            f"{when}_{operation}"
            for operation in ("create", "update", "replace", "upsert", "delete")
            for when in ("before", "after")
        ]
        for method, target in (("post", "/tags"), ("post", "/tags/-/upsert?on_conflict=name")):
            refused = client.request(method, target, json=[{"name": "kept?"}, {"name": "refused"}])
            assert refused.status_code == 403
            assert refused.json()["code"] == "forbidden"
        assert client.get("/tags").json() == []
        if shop.use_async:
            assert client.portal is not None
            client.portal.call(shop.db.adispose)


@pytest.mark.parametrize("kind", ["model", "table"])
def test_hooks_run_for_each_row_that_a_filter_finds(shop: Any, kind: str) -> None:
    calls: list[tuple[str, int]] = []

    class Limits:
        def before_update(self, session: Any, values: dict[str, Any], row: Any) -> None:
            right = row["right"] if isinstance(row, dict) else row.right
            calls.append(("update", right))
            if values["value"] == "refused" and right == 2:
                raise HTTPException(403, "Not that one.")

        def after_delete(self, session: Any, row: Any) -> None:
            calls.append(("delete", row["right"] if isinstance(row, dict) else row.right))

    model = shop.models["Pair"] if kind == "model" else shop.models["Pair"].__table__
    app = FastAPI()
    app.include_router(CRUDRouter(model, db=shop.db, prefix="/pairs", hooks=Limits(), bulk=True, use_async=False))
    client = TestClient(app)
    shop.insert("Pair", *({"left": "a", "right": number, "value": "old"} for number in (1, 2, 3)))
    assert client.patch("/pairs?right__lte=2", json={"value": "refused"}).status_code == 403
    assert {row["value"] for row in client.get("/pairs").json()} == {"old"}
    assert client.patch("/pairs?right__lte=2", json={"value": "new"}).json() == {"affected": 2}
    assert client.delete("/pairs?right__gte=2").json() == {"affected": 2}
    assert calls == [*[("update", 1), ("update", 2)] * 2, ("delete", 2), ("delete", 3)]


@pytest.mark.parametrize("path", ["/box/1", "/box?name=oak"])
def test_a_delete_takes_the_rows_along_that_the_model_says(path: str) -> None:
    db = SQLAlchemy("sqlite://")
    base: Any = db.Base

    class Box(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        lids: Mapped[list[Lid]] = relationship(cascade="all, delete-orphan")

    class Lid(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        box_id: Mapped[int] = mapped_column(sa.ForeignKey("box.id"))

    db.create_all()
    app = FastAPI()
    for model in (Box, Lid):
        app.include_router(CRUDRouter(model, db=db, bulk=True, use_async=False))
    client = TestClient(app)
    assert client.post("/box", json={"name": "oak"}).status_code == 201
    assert client.post("/lid", json=[{"box_id": 1}, {"box_id": 1}]).status_code == 201
    assert client.delete(path).status_code == 200
    assert client.get("/lid").json() == client.get("/box").json() == []
    db.dispose()


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_rows_that_cascades_delete_together_are_found_by_one_filter(database_url: str, use_async: bool) -> None:
    db = SQLAlchemy(database_url)
    base: Any = db.Base

    class Branch(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("branch.id"))
        twigs: Mapped[list[Branch]] = relationship(cascade="all, delete-orphan")

    db.create_all()
    app = FastAPI()
    app.include_router(CRUDRouter(Branch, db=db, bulk=True, use_async=use_async))
    with TestClient(app) as client:
        for number in range(1, 6):
            assert client.post("/branch", json={"parent_id": number - 1 or None}).status_code == 201
        assert client.delete("/branch?id__gte=3").json() == {"affected": 3}
        assert [row["id"] for row in client.get("/branch").json()] == [1, 2]
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def test_a_hook_may_change_the_values(shop: Any) -> None:
    class Login(BaseModel):
        name: str
        password: str

    class Hash:
        def before_create(self, session: Any, values: dict[str, Any]) -> None:
            values["hashed_password"] = values.pop("password")[::-1]

    app = FastAPI()
    author = shop.models["Author"]
    app.include_router(CRUDRouter(author, db=shop.db, prefix="/a", create_schema=Login, hooks=Hash(), use_async=False))
    client = TestClient(app)
    assert client.post("/a", json={"name": "x", "password": "abc"}).status_code == 201
    assert client.post("/a", json={"name": "y", "password": "abc", "more": 1}).status_code == 422
    with shop.db.engine.connect() as connection:
        assert connection.execute(sa.select(author.hashed_password)).scalar() == "cba"


@pytest.mark.parametrize(
    "options",
    [
        {"hooks": type("Hooks", (), {"before_crate": lambda self: None})()},
        {"operations": ["list", "fly"]},
        {"exclude": ["nope"]},
        {"expose": ["nope"]},
        {"operation_dependencies": {"fly": []}},
        {"dialects": ["nope"]},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_wrong_option_is_an_error_that_names_it(options: dict[str, Any]) -> None:
    db = SQLAlchemy("sqlite://")

    class Thing(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ValueError, match=r"nope|fly|before_crate"):
        CRUDRouter(Thing, db=db, **options)


def test_dependencies_hold_for_all_or_for_one_operation(shop: Any) -> None:
    def admin(x_admin: str = Header(default="")) -> None:
        if x_admin != "yes":
            raise HTTPException(403, "Admins only.", headers={"x-why": "admin"})

    def known(x_name: str = Header()) -> None:
        pass

    app = FastAPI()
    app.include_router(
        CRUDRouter(
            shop.models["Tag"],
            db=shop.db,
            prefix="/tags",
            dependencies=[Depends(known)],
            operation_dependencies={"delete": [Depends(admin)], "create": [Depends(admin)]},
            use_async=False,
        )
    )
    client = TestClient(app)
    assert client.get("/tags").status_code == 422
    assert client.get("/tags").headers["content-type"] == "application/problem+json"
    assert client.get("/tags", headers={"x-name": "a"}).status_code == 200
    refused = client.post("/tags", headers={"x-name": "a"}, json={"name": "t"})
    assert (refused.status_code, refused.json()["code"], refused.headers["x-why"]) == (403, "forbidden", "admin")
    assert client.post("/tags", headers={"x-name": "a", "x-admin": "yes"}, json={"name": "t"}).status_code == 201
    app.dependency_overrides[known] = lambda: None
    assert len(client.get("/tags").json()) == 1


def test_only_the_chosen_operations_are_there(shop: Any) -> None:
    app = FastAPI()
    app.include_router(
        CRUDRouter(shop.models["Tag"], db=shop.db, prefix="/tags", operations=["list", "read"], use_async=False)
    )
    client = TestClient(app)
    assert client.post("/tags", json={"name": "x"}).headers["allow"] == "GET, HEAD"
    assert client.post("/tags/-/upsert", json={"name": "x"}).status_code == 404
    assert set(app.openapi()["paths"]) == {"/tags", "/tags/{pk}"}


@pytest.fixture
def office(tmp_path: Any) -> Iterator[tuple[SQLAlchemy, TestClient, dict[str, Any]]]:
    """Models with mixins, validators, listeners, cascades and inheritance."""
    db = SQLAlchemy(f"sqlite:///{tmp_path}/office.db")
    base: Any = db.Base
    heard: list[str] = []

    class Memo(SoftDeleteMixin, TimestampMixin, VersionMixin, UUIDKeyMixin, base):
        subject: Mapped[str] = mapped_column(sa.String(20), unique=True)

        @validates("subject")
        def check(self, key: str, value: str) -> str:
            return value.strip()

    class Desk(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        drawers: Mapped[list[Drawer]] = relationship(cascade="all, delete-orphan")

    class Drawer(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        desk_id: Mapped[int] = mapped_column(sa.ForeignKey("desk.id"))

    class Person(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Clerk(Person):
        id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
        counter: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "clerk"}

    class Guard(Person):
        badge: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "guard"}

    @sa.event.listens_for(Desk, "before_insert")
    def hear(mapper: Any, connection: Any, desk: Any) -> None:
        heard.append(desk.name)

    db.create_all()
    app = FastAPI()
    for model in (Memo, Desk, Drawer, Person, Clerk, Guard):
        app.include_router(CRUDRouter(model, db=db, bulk=True, use_async=False))
    models = {model.__name__: model for model in (Memo, Desk, Drawer, Person, Clerk, Guard)}
    yield db, TestClient(app), {**models, "heard": heard}
    db.dispose()


def test_soft_delete_timestamps_and_versions_hold_on_every_path(office: Any) -> None:
    db, client, models = office
    created = client.post("/memo", json={"subject": " a "})
    assert created.status_code == 201, created.text
    memo, path = created.json(), created.headers["location"]
    assert (memo["subject"], memo["version"], memo["deleted_at"]) == ("a", 1, None)
    for field in ("created_at", "updated_at", "version", "deleted_at", "id"):
        assert client.patch(path, json={field: memo[field]}).status_code == 422
    changed = client.patch(path, json={"subject": "b "}, headers={"if-match": created.headers["etag"]}).json()
    assert (changed["subject"], changed["version"]) == ("b", 2)
    assert changed["updated_at"] > memo["updated_at"] == memo["created_at"] == changed["created_at"]
    assert client.patch("/memo?subject=b", json={"subject": "c"}).json() == {"affected": 1}
    assert client.post("/memo/-/upsert?on_conflict=subject", json={"subject": "c"}).json()["version"] >= 3
    assert client.delete(path).status_code == 200
    for response in (client.get(path), client.patch(path, json={"subject": "d"}), client.delete(path)):
        assert response.status_code == 404
    assert client.get("/memo?count=exact").headers["x-total-count"] == "0"
    assert client.delete("/memo?subject=c").json() == {"affected": 0}
    assert client.post("/memo/-/upsert?on_conflict=subject", json={"subject": "c"}).status_code == 409
    assert client.post("/memo", json={"subject": "c"}).status_code == 409
    with db.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(models["Memo"].__table__)).scalar() == 1


def test_listeners_and_cascades_of_the_mapper_see_the_change(office: Any) -> None:
    _, client, models = office
    desk = client.post("/desk", json={"name": "oak"}).json()
    assert models["heard"] == ["oak"]
    client.post("/drawer", json=[{"desk_id": desk["id"]}, {"desk_id": desk["id"]}])
    assert client.delete(f"/desk/{desk['id']}").status_code == 200
    assert client.get("/drawer").json() == []


def test_inheritance_is_read_and_written_through_its_tables(office: Any) -> None:
    _, client, _ = office
    clerk = client.post("/clerk", json={"name": "Cleo", "counter": 3})
    assert clerk.status_code == 201, clerk.text
    assert clerk.json() == {"id": 1, "name": "Cleo", "kind": "clerk", "counter": 3}
    guard = client.post("/guard", json={"name": "Gil", "badge": 7}).json()
    assert [row["name"] for row in client.get("/person").json()] == ["Cleo", "Gil"]
    assert [row["name"] for row in client.get("/guard").json()] == ["Gil"]
    assert client.get(f"/guard/{clerk.json()['id']}").status_code == 404
    assert client.get("/clerk?counter__gt=2&name=Cleo").json() == [clerk.json()]
    assert client.patch(clerk.headers["location"], json={"counter": 4, "name": "C"}).json()["counter"] == 4
    assert client.delete(clerk.headers["location"]).json()["name"] == "C"
    assert [row["id"] for row in client.get("/person").json()] == [guard["id"]]


def test_a_read_schema_may_compute(shop: Any) -> None:
    from pydantic import computed_field

    class Shown(BaseModel):
        id: int
        name: str

        @computed_field  # type: ignore[prop-decorator]
        @property
        def initial(self) -> str:
            return self.name[0]

    class Asked(BaseModel):
        name: str
        nope: int

    shop.insert("Author", {"id": 1, "name": "Ann"})
    app = FastAPI()
    author = shop.models["Author"]
    app.include_router(CRUDRouter(author, db=shop.db, prefix="/a", read_schema=Shown, use_async=False))
    client = TestClient(app)
    shown = {"id": 1, "name": "Ann", "initial": "A"}
    assert client.get("/a/1").json() == shown
    assert client.get("/a").json() == [shown]
    assert client.get("/a", headers={"accept": "application/x-ndjson"}).json() == shown
    assert client.get("/a/1?fields=name").json() == {"name": "Ann"}
    assert client.get("/a?born__isnull=true").status_code == 422
    with pytest.raises(ValueError, match="nope"):
        CRUDRouter(author, db=shop.db, read_schema=Asked)
