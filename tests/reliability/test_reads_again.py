"""A read whose connection is cut is begun again; one that is cut each time is a 503."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.sessions import READ_AGAIN
from tests.support.databases import server_url

from .proxy import Proxy

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
