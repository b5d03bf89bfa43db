"""Liveness asks nobody; readiness asks each database, beside the pool and within its time."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.web.health import health_router
from tests.support.client import TestClient
from tests.support.databases import server_url

PASSWORD = "canary-password"
SERVERS = {"postgresql": "postgresql", "postgresql+asyncpg": "postgresql", "mysql": "mariadb"}


def url_with(driver: str, port: int) -> str:
    """A URL with a password, to a port where no database answers."""
    return f"{driver}://app:{PASSWORD}@127.0.0.1:{port}/app"


def app_with(*databases: SQLAlchemy, timeout: float = 2.0) -> FastAPI:
    app = FastAPI()
    app.include_router(health_router(*databases, timeout=timeout))

    @app.get("/free")
    async def free() -> str:
        return "free"

    return app


@pytest.fixture(params=["sqlite", "memory", *SERVERS])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLAlchemy]:
    """A database with one connection in its pool."""
    name: str = request.param
    url: str | sa.URL
    if name in SERVERS:
        server = server_url(SERVERS[name])
        if server is None:
            pytest.skip(f"NO {SERVERS[name].upper()} SERVER TAKES PART")
        url = server.set(drivername=name)
    else:
        url = f"sqlite:///{tmp_path}/health.db" if name == "sqlite" else "sqlite://"
    database = SQLAlchemy(url, engine_args={"pool_size": 1, "max_overflow": 0}, pool_timeout=0.1)
    yield database
    database.dispose()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers, as a frozen one does."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield silent.getsockname()[1]


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


def test_a_database_that_answers_is_ready(database: SQLAlchemy) -> None:
    with TestClient(app_with(database)) as client:
        for _ in range(2):
            response = client.get("/health/ready")
            assert response.status_code == 200
            assert response.json() == {"status": "ready", "databases": {database.url.get_backend_name(): "ok"}}
            assert response.headers["cache-control"] == "no-store"


def test_an_exhausted_pool_is_still_ready(database: SQLAlchemy) -> None:
    with database.engine.connect(), TestClient(app_with(database)) as client:
        assert client.get("/health/ready").status_code == 200


def test_an_exhausted_async_pool_is_still_ready(database: SQLAlchemy) -> None:
    async def probe() -> int:
        transport = httpx2.ASGITransport(app_with(database))
        async with (
            database.async_engine.connect(),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            response = await client.get("/health/ready")
        await database.adispose()
        return response.status_code

    assert asyncio.run(probe()) == 200


def test_readiness_closes_the_connection_that_it_opened(database: SQLAlchemy) -> None:
    opened: list[object] = []
    closed: list[object] = []

    async def probe() -> None:
        for engine in (database.engine, database.async_engine.sync_engine):
            sa.event.listen(engine, "connect", lambda connection, _record: opened.append(connection))
            sa.event.listen(engine, "close", lambda connection, _record: closed.append(connection))
        transport = httpx2.ASGITransport(app_with(database))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            for _ in range(3):
                assert (await client.get("/health/ready")).status_code == 200

    asyncio.run(probe())
    assert len(opened) == 3
    assert closed == opened


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_down_is_a_503_that_tells_no_secret(server: str, dead_port: int) -> None:
    database = SQLAlchemy(url_with(server, dead_port))
    name = database.url.get_backend_name()
    with TestClient(app_with(database)) as client:
        response = client.get("/health/ready")
        assert client.get("/health/live").json() == {"status": "live"}
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert response.json()["code"] == "database_unavailable"
    assert response.json()["databases"] == {name: "database_unavailable"}
    for secret in (PASSWORD, str(dead_port), "127.0.0.1", "app:"):
        assert secret not in response.text


@pytest.mark.parametrize("server", SERVERS)
def test_a_frozen_server_is_unready_in_time_and_stops_nobody(server: str, silent_port: int) -> None:
    database = SQLAlchemy(url_with(server, silent_port))

    async def probe() -> tuple[list[httpx2.Response], bool]:
        transport = httpx2.ASGITransport(app_with(database, timeout=0.3))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            probes = [asyncio.create_task(client.get("/health/ready")) for _ in range(5)]
            assert (await client.get("/free")).text == '"free"'
            waiting = not any(probe.done() for probe in probes)
            return await asyncio.wait_for(asyncio.gather(*probes), 5), waiting

    responses, waiting = asyncio.run(probe())
    assert waiting
    assert [response.status_code for response in responses] == [503] * 5
    assert {response.json()["code"] for response in responses} == {"timeout"}


def test_a_frozen_server_behind_a_sync_driver_is_unready_in_time(silent_port: int) -> None:
    engine = sa.create_engine(
        f"postgresql+psycopg://postgres@127.0.0.1:{silent_port}/postgres", connect_args={"connect_timeout": 2}
    )
    database = SQLAlchemy(custom_engine=engine)
    with TestClient(app_with(database, timeout=0.2)) as client:
        response = client.get("/health/ready")
        assert (response.status_code, response.json()["databases"]) == (503, {"postgresql": "timeout"})
        assert client.get("/free").status_code == 200


def test_every_database_is_named(tmp_path: Path, dead_port: int) -> None:
    first = SQLAlchemy(f"sqlite:///{tmp_path}/first.db")
    second = SQLAlchemy(f"sqlite:///{tmp_path}/second.db")
    down = SQLAlchemy(url_with("mysql", dead_port))
    with TestClient(app_with(first, second)) as client:
        assert client.get("/health/ready").json()["databases"] == {"sqlite": "ok", "sqlite-2": "ok"}
    with TestClient(app_with(first, down)) as client:
        response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["databases"] == {"sqlite": "ok", "mysql": "database_unavailable"}
    for database in (first, second):
        database.dispose()


def test_a_sqlite_file_that_is_no_database_is_unready(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database" * 100)
    for path in (tmp_path / "text.db", tmp_path / "absent" / "app.db"):
        with TestClient(app_with(SQLAlchemy(f"sqlite:///{path}"))) as client:
            response = client.get("/health/ready")
        assert (response.status_code, response.json()["databases"]) == (503, {"sqlite": "database_unavailable"})
        assert os.fspath(path) not in response.text


def test_the_middleware_around_it_changes_nothing(tmp_path: Path) -> None:
    database = SQLAlchemy(f"sqlite:///{tmp_path}/app.db")
    app = app_with(database)
    app.add_middleware(DBSessionMiddleware, db=database)
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 200


def test_prefix_and_openapi() -> None:
    app = FastAPI()
    app.include_router(health_router(SQLAlchemy("sqlite://"), prefix="/status"))
    with TestClient(app) as client:
        assert client.get("/status/live").status_code == 200
    responses = app.openapi()["paths"]["/status/ready"]["get"]["responses"]
    assert "databases" in responses["503"]["content"]["application/problem+json"]["schema"]["required"]
