"""Who may do what on every generated route, and what no answer and no log may hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, reflect
from tests.support.client import TestClient

PASSWORD = "canary-password"
SECRET = "canary-secret"
OPERATIONS = ("create", "update", "replace", "delete", "upsert", "bulk_update", "bulk_delete")
ROLES = {"anonymous": 0, "user": 1, "admin": 2}
BODIES: dict[str, Any] = {
    "post /items": {"name": "b"},
    "patch /items/{pk}": {"name": "b"},
    "put /items/{pk}": {"name": "b"},
    "post /items/-/upsert": {"name": "a"},
    "patch /items": {"name": "b"},
}
QUERIES = {"patch /items": "?name=a", "delete /items": "?name=a", "post /items/-/upsert": "?on_conflict=name"}


def at_least(rank: int) -> Any:
    def check(x_role: str = Header(default="anonymous")) -> None:
        if ROLES[x_role] == 0:
            raise HTTPException(401, "Log in.")
        if ROLES[x_role] < rank:
            raise HTTPException(403, "Not yours.")

    return Depends(check)


class House:
    """An application with a model, on a database whose URL holds a password where it can."""

    def __init__(self, url: str) -> None:
        made = sa.make_url(url)
        if made.get_backend_name() == "postgresql":  # the tests' server trusts everybody, whatever the password
            made = made.set(password=PASSWORD)
        self.db = SQLAlchemy(made)

        class Item(self.db.Base):  # type: ignore[name-defined,misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(20), unique=True)
            api_key: Mapped[str | None] = mapped_column(sa.String(40), unique=True)
            size: Mapped[int | None]
            __table_args__ = (sa.CheckConstraint("size > 0", name="size_positive"),)

        self.item = Item
        self.app = FastAPI()
        self.app.include_router(
            CRUDRouter(
                Item,
                db=self.db,
                prefix="/items",
                bulk=True,
                aggregates=True,
                dependencies=[at_least(1)],
                operation_dependencies={operation: [at_least(2)] for operation in OPERATIONS},
            )
        )

    def stored(self) -> list[Any]:
        with self.db.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.select(self.item.__table__))]

    def refill(self) -> None:
        with self.db.engine.begin() as connection:
            connection.execute(sa.delete(self.item.__table__))
            connection.execute(sa.insert(self.item.__table__), {"id": 1000, "name": "a", "api_key": SECRET})


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    house = House(database_url)
    house.db.create_all()
    house.refill()
    yield house
    house.db.dispose()


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app, raise_server_exceptions=False) as client:
        yield client
        assert client.portal is not None
        client.portal.call(house.db.adispose)


def test_s5_every_verb_of_every_route_is_open_to_those_who_may(
    house: House, client: TestClient, figure: Callable[..., None]
) -> None:
    tried = 0
    for path, methods in house.app.openapi()["paths"].items():
        for method in methods:
            name = f"{method} {path}"
            for role, rank in ROLES.items():
                house.refill()
                before = house.stored()
                url = path.replace("{pk}", "1000") + QUERIES.get(name, "")
                answer = client.request(method, url, headers={"x-role": role}, json=BODIES.get(name))
                expected = 401 if rank == 0 else 403 if method != "get" and rank < 2 else 0
                assert answer.status_code == expected or (not expected and answer.status_code < 300), (name, role)
                assert (house.stored() == before) is (bool(expected) or method == "get" or "upsert" in path), name
                tried += 1
    assert tried == 3 * 10
    figure("S5", variant=house.db.engine.dialect.name, n=tried, failures=0)


BAD: list[tuple[str, str, Any]] = [
    ("POST", "/items", {"name": "a"}),
    ("POST", "/items", {"name": "b", "size": -1}),
    ("POST", "/items", {"name": None}),
    ("POST", "/items", {"name": "b", "api_key": SECRET}),
    ("POST", "/items", {"name": "x" * 21}),
    ("PATCH", "/items/1", {"size": 2**80}),
    ("PATCH", "/items/1", {"api_key": "x"}),
    ("GET", "/items?sort=api_key", None),
    ("GET", "/items?api_key=canary-secret", None),
    ("GET", "/items?name=' OR 1=1 --", None),
    ("GET", "/items?sort=id;DROP TABLE item", None),
    ("GET", "/items?fields=id) from item --", None),
    ("GET", "/items/1' OR '1'='1", None),
    ("GET", '/items?filter={"or":[{"name\' OR 1=1":1}]}', None),
    ("GET", "/items?q=canary", None),
    ("GET", "/items?cursor=AAAA", None),
    ("GET", "/items/-/aggregate?sum=api_key", None),
    ("POST", "/items/-/upsert?on_conflict=api_key", {"name": "a"}),
    ("DELETE", "/items/99", None),
]


def test_s8_no_answer_and_no_log_holds_a_password_a_secret_sql_or_a_traceback(
    house: House, client: TestClient, caplog: pytest.LogCaptureFixture, figure: Callable[..., None]
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_sqlalchemy")
    bodies = [client.request(method, url, headers={"x-role": "admin"}, json=body).text for method, url, body in BAD]
    with house.db.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE item"))
    bodies += [client.request(method, url, headers={"x-role": "admin"}, json=body).text for method, url, body in BAD]
    logged = [record for record in caplog.records if record.name.startswith("fastapi_sqlalchemy")]
    assert logged
    bodies += [record.getMessage() for record in logged]
    for text in bodies:
        for canary in (PASSWORD, "canary-secret", "SELECT", "INSERT", "UPDATE ", "FROM ", "Traceback", 'File "'):
            assert canary not in text, text
    figure("S8", variant=house.db.engine.dialect.name, n=len(bodies), failures=0)


def test_s8_what_looks_like_an_injection_is_a_bound_value(house: House, client: TestClient) -> None:
    texts: list[str] = []

    def note(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        texts.append(text)

    client.get("/items?name=warm", headers={"x-role": "user"})
    from fastapi_sqlalchemy.engines import live_engines

    engines = [engine for engine in live_engines() if engine.url.database == house.db.url.database]
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    answer = client.get("/items", params={"name": "injected' OR 1=1 --"}, headers={"x-role": "user"})
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert answer.json() == []
    assert any("item" in text for text in texts)
    assert not any("injected" in text for text in texts)


def test_s9_a_new_table_is_not_exposed_until_it_is_named(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE old (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("CREATE TABLE other (id INTEGER PRIMARY KEY)"))
    app = FastAPI()
    for router in reflect(db, tables=["old"]).routers():
        app.include_router(router)
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE fresh (id INTEGER PRIMARY KEY)"))
    with TestClient(app) as client:
        assert [client.get(f"/{name}").status_code for name in ("old", "other", "fresh")] == [200, 404, 404]
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()
