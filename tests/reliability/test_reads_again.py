"""A read whose connection is cut is begun again; one that is cut each time is a 503.

A connection that is cut while it is being opened is opened again.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from fastapi import FastAPI
from psycopg import generators
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.engines.postgresql import OPENED_AT_MOST
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.sessions import READ_AGAIN
from tests.support.client import TestClient
from tests.support.databases import server_url, temporary_database

from .proxy import Proxy
from .servers import free_port

OPENING = b"user\x00"
READING = b"a_read"


@pytest.mark.parametrize(
    ("driver", "cut"),
    [("asyncpg", OPENING), ("asyncpg", READING), ("psycopg", READING)],
    ids=["asyncpg opening", "asyncpg reading", "psycopg reading"],
)
@pytest.mark.parametrize(("cuts", "status"), [(READ_AGAIN, 200), (READ_AGAIN + 1, 503)])
def test_the_first_read_is_begun_again_when_its_connection_is_cut(
    driver: str, cut: bytes, cuts: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_url("postgresql")
    if server is None or server.host is None:
        pytest.skip("NO POSTGRESQL SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
    monkeypatch.setenv("PGSSLMODE", "disable")  # the proxy has to read along
    with Proxy(server.host, server.port or 5432) as proxy:
        db = SQLAlchemy(server.set(drivername=f"postgresql+{driver}", port=proxy.port))
        app = FastAPI()
        app.add_middleware(DBSessionMiddleware, db=db)

        @app.get("/")
        async def read() -> int | None:
            return await db.async_session.scalar(sa.select(sa.literal(1).label("a_read")))

        with TestClient(app) as client:
            proxy.cut_reply_to(cut, times=cuts)
            answer = client.get("/")
            assert (answer.status_code, proxy.cuts) == (status, cuts)
            if status == 503:
                assert answer.json()["code"] == "database_unavailable"
                assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("cuts", "status"), [(OPENED_AT_MOST - 1, 200), (OPENED_AT_MOST, 503)])
def test_psycopg_opens_a_connection_again_that_the_server_ends_meanwhile(
    method: str, mode: str, cuts: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_url("postgresql")
    if server is None or server.host is None:
        pytest.skip("NO POSTGRESQL SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
    monkeypatch.setenv("PGSSLMODE", "disable")
    with Proxy(server.host, server.port or 5432) as proxy:
        db = SQLAlchemy(server.set(drivername="postgresql+psycopg", port=proxy.port))
        app = FastAPI()
        app.add_middleware(DBSessionMiddleware, db=db)

        @app.api_route("/sync", methods=["GET", "POST"])
        def use() -> int | None:
            return db.session.scalar(sa.text("SELECT 1"))

        @app.api_route("/async", methods=["GET", "POST"])
        async def use_async() -> int | None:
            return await db.async_session.scalar(sa.text("SELECT 1"))

        with TestClient(app) as client:
            proxy.cut_reply_to(OPENING, times=cuts)
            assert (client.request(method, f"/{mode}").status_code, proxy.cuts) == (status, cuts)
            assert client.request(method, f"/{mode}").status_code == 200


def test_nobody_asks_again_where_no_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def count(cls: Any, conninfo: str = "") -> Any:
        nonlocal asked
        asked += 1
        return generators.connect(conninfo)

    monkeypatch.setattr(psycopg.Connection, "_connect_gen", classmethod(count))
    db = SQLAlchemy(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    with db(), pytest.raises(sqlalchemy.exc.OperationalError):
        db.session.scalar(sa.text("SELECT 1"))
    assert asked == 1


@pytest.mark.parametrize("path", ["/", "/items/1"], ids=["a route of the user's", "a generated route"])
@pytest.mark.parametrize(("ends", "status"), [(READ_AGAIN, 200), (100, 503)])
def test_asyncpg_reads_though_new_connections_are_ended_before_they_are_set_up(
    path: str, ends: int, status: int
) -> None:
    """SQLAlchemy gives each connection of asyncpg codecs for JSON, past the errors of its dialect."""
    left = 0
    asyncpg: Any = pytest.importorskip("asyncpg")

    async def connect(*args: Any, **options: Any) -> Any:
        nonlocal left
        connection = await asyncpg.connect(*args, **options)
        if left:
            left -= 1
            connection.terminate()
        return connection

    with temporary_database("postgresql") as url:
        options = {"connect_args": {"async_creator_fn": connect}}
        db = SQLAlchemy(sa.make_url(url).set(drivername="postgresql+asyncpg"), async_engine_args=options)

        class Item(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)

        app = FastAPI(lifespan=db.lifespan)
        app.include_router(CRUDRouter(Item, db=db, prefix="/items"))

        @app.get("/")
        async def read() -> int | None:
            return await db.async_session.scalar(sa.select(sa.literal(1)))

        with TestClient(app) as client:
            assert client.post("/items", json={}).status_code == 201
            assert client.get(path).status_code == 200
            assert client.portal is not None
            client.portal.call(db.adispose)
            left = ends
            assert client.get(path).status_code == status
