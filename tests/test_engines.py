"""Engines: one per process and event loop, bounded in every wait, let go in the end."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.pool import NullPool, StaticPool

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.engines import live_engines
from fastapi_sqlalchemy.exceptions import ConfigurationError, PoolTimeoutError
from tests.support.client import TestClient
from tests.support.doors import Door, count_rows, make_database

SLOW = {
    "postgresql": "SELECT pg_sleep(20)",
    "mysql": "SELECT SLEEP(20)",
    "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
}


# How many, and when.


def test_nothing_is_built_before_the_first_use(sqlite_url: str) -> None:
    before = set(map(id, live_engines()))
    db = SQLAlchemy(sqlite_url)
    assert db.url.database is not None
    with db():
        _ = db.commit_on_exit
    assert set(map(id, live_engines())) == before
    assert id(db.engine) not in before
    assert db.engine in live_engines()
    assert not os.path.exists(db.url.database)


def test_32_threads_that_race_get_one_engine(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    start = threading.Barrier(32)
    engines: list[sa.Engine] = []

    def race() -> None:
        start.wait()
        engines.append(db.engine)

    threads = [threading.Thread(target=race) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engines) == 32
    assert len(set(map(id, engines))) == 1


def test_each_event_loop_has_an_engine_of_its_own(database_url: str) -> None:
    db = SQLAlchemy(database_url)
    both = threading.Barrier(2)
    engines: list[Any] = []

    async def main() -> None:
        engines.append(db.async_engine)
        assert db.async_engine is engines[-1] or db.async_engine in engines
        async with db():
            assert await db.async_session.scalar(sa.select(1)) == 1
            await asyncio.to_thread(both.wait)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(engine) for engine in engines}) == 2


@pytest.mark.backends("sqlite", "postgresql")
def test_a_forked_child_has_engines_of_its_own_and_leaves_the_parents_alone(database_url: str) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    db.create_all()
    with db():
        Item.new(name="parent")
    parent = db.engine
    children: list[int] = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                with db():
                    Item.new(name=f"child {number}")
                assert db.engine is not parent
                db.dispose()
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert db.engine is parent
    with db():
        Item.new(name="parent again")
    assert count_rows(db, Item) == 6


def test_an_engine_made_elsewhere_is_used_as_it_is_but_behind_the_gate(sqlite_url: str) -> None:
    engine = sa.create_engine(sqlite_url, pool_size=2, max_overflow=0, pool_timeout=0.1)
    db, Item = make_database(None, custom_engine=engine)  # type: ignore[arg-type]
    assert db.engine is engine
    assert db.initiated
    db.create_all()
    with db(), db(), db():
        pass
    with engine.connect(), engine.connect(), pytest.raises(PoolTimeoutError), db():
        Item.get_all()

    async def main() -> None:
        _ = db.async_engine

    with pytest.raises(ConfigurationError, match="async_custom_engine"):
        asyncio.run(main())
    engine.dispose()


def test_engine_arguments_reach_both_engines_and_those_of_the_async_one_win_there(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url, engine_args={"pool_size": 3, "max_overflow": 1})
    apart = SQLAlchemy(sqlite_url, engine_args={"pool_size": 3}, async_engine_args={"pool_size": 4})
    assert (db.engine.pool.size(), apart.engine.pool.size()) == (3, 3)  # type: ignore[attr-defined]

    async def main() -> tuple[int, int]:
        return db.async_engine.pool.size(), apart.async_engine.pool.size()  # type: ignore[attr-defined]

    assert asyncio.run(main()) == (3, 4)


@pytest.mark.parametrize("pool", [NullPool, StaticPool])
def test_another_pool_can_be_chosen(sqlite_url: str, pool: Any) -> None:
    db = SQLAlchemy(sqlite_url, engine_args={"poolclass": pool})
    assert type(db.engine.pool) is pool
    with db():
        assert db.session.scalar(sa.select(1)) == 1
    db.dispose()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_connection_past_the_pools_size_is_kept_for_those_who_wait_for_one(
    postgres_url: str, asynchronous: bool
) -> None:
    """Each would have to open it again, which costs more than most statements."""
    db = SQLAlchemy(postgres_url, engine_args={"pool_size": 1, "max_overflow": 2})
    opened: list[Any] = []

    def read() -> None:
        with db():
            db.session.execute(sa.text("SELECT pg_sleep(0.002)"))

    async def read_async() -> None:
        async with db():
            await db.async_session.execute(sa.text("SELECT pg_sleep(0.002)"))

    def count(engine: sa.Engine) -> None:
        @event.listens_for(engine, "connect")
        def _opened(_connection: Any, _record: Any) -> None:
            opened.append(1)

    async def crowd() -> None:
        count(db.async_engine.sync_engine)
        await asyncio.gather(*[read_async() for _ in range(60)])
        pool: Any = db.async_engine.pool
        assert pool.checkedout() == 0
        await read_async()
        await read_async()
        assert pool.checkedin() == 1, "nobody waits: what is past the size is closed"
        await db.adispose()

    if asynchronous:
        asyncio.run(crowd())
    else:
        count(db.engine)
        with ThreadPoolExecutor(12) as threads:
            for done in [threads.submit(read) for _ in range(60)]:
                done.result()
        pool: Any = db.engine.pool
        assert pool.checkedout() == 0
        read()
        read()
        assert pool.checkedin() == 1, "nobody waits: what is past the size is closed"
        db.dispose()
    assert len(opened) <= 3


def test_dispose_closes_idle_connections_and_the_next_use_opens_new_ones(database_url: str) -> None:
    db = SQLAlchemy(database_url)

    async def main() -> None:
        for _ in range(2):
            async with db():
                db.session.execute(sa.select(1))
                await db.async_session.execute(sa.select(1))
            pools: list[Any] = [db.engine.pool, db.async_engine.pool]
            assert [pool.checkedin() for pool in pools] == [1, 1]
            await db.adispose()
            pools = [db.engine.pool, db.async_engine.pool]
            assert [pool.checkedin() for pool in pools] == [0, 0]

    asyncio.run(main())


def test_a_new_url_closes_the_connections_of_the_old_one(tmp_path: Any) -> None:
    db = SQLAlchemy(f"sqlite:///{tmp_path}/one.db")
    with db():
        db.session.execute(sa.select(1))
    old = db.engine
    db.init(f"sqlite:///{tmp_path}/two.db")
    assert old.pool.checkedin() == 0  # type: ignore[attr-defined]
    with db():
        assert db.session.execute(sa.text("PRAGMA database_list")).first()[2].endswith("two.db")  # type: ignore[index]


# Deadlines.


@pytest.mark.parametrize("door", [Door("middleware", False), Door("dependency", True)], ids=str)
@pytest.mark.parametrize("driver", ["", "+asyncpg"])
def test_a_statement_that_takes_too_long_is_a_503_and_the_pool_is_well(
    database_url: str, door: Door, driver: str
) -> None:
    if driver and not (database_url.startswith("postgresql") and door.asynchronous):
        pytest.skip("a driver of PostgreSQL, for async sessions")
    db, _ = make_database(database_url.replace("postgresql:", f"postgresql{driver}:"), statement_timeout=0.4)
    app = door.app(db)
    door.route(app, db, "/", lambda session: session.execute(sa.text(SLOW[db.engine.dialect.name])).scalar())
    door.route(app, db, "/fast", lambda session: session.execute(sa.text("SELECT 1")).scalar())
    with TestClient(app) as client:
        answer = client.post("/")
        assert (answer.status_code, answer.json()["code"]) == (503, "timeout")
        assert int(answer.headers["retry-after"]) > 0
        assert client.post("/fast").json() == 1


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "mysql", "mariadb"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_accepts_and_never_answers_is_a_503_within_the_deadline(
    scheme: str, asynchronous: bool, silent_server: int
) -> None:
    db = SQLAlchemy(f"{scheme}://user:secret@127.0.0.1:{silent_server}/app", connect_timeout=1)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    if asynchronous:

        @app.get("/")
        async def endpoint_async() -> Any:
            return await db.async_session.scalar(sa.select(1))

    else:

        @app.get("/")
        def endpoint() -> Any:
            return db.session.scalar(sa.select(1))

    started = time.monotonic()
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    # far below the 30 seconds of a statement, whose deadline used to hold the handshake too
    assert time.monotonic() - started < 15


@pytest.mark.backends("mariadb")
def test_connections_of_pymysql_read_the_certificates_of_the_system_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = SQLAlchemy(database_url)
    with db.engine.connect():
        pass
    made = 0
    make = ssl.create_default_context

    def count(*arguments: Any, **options: Any) -> ssl.SSLContext:
        nonlocal made
        made += 1
        return make(*arguments, **options)

    monkeypatch.setattr(ssl, "create_default_context", count)
    with db.engine.connect(), db.engine.connect():
        pass
    assert made == 0
    demanding = SQLAlchemy(database_url, engine_args={"connect_args": {"ssl": {"check_hostname": False}}})
    with pytest.raises(sqlalchemy.exc.OperationalError, match="SSL"), demanding.engine.connect():  # the server has none
        pass
    assert made == 1


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_connections_that_the_server_closed_in_the_pool_reach_no_client(database_url: str, asynchronous: bool) -> None:
    db, Item = make_database(database_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/")
    async def endpoint() -> int:
        if asynchronous:
            return len(await Item.aget_all())
        return len(await asyncio.to_thread(Item.get_all))

    with TestClient(app) as client:
        assert client.get("/").json() == 0
        _end_all_connections(database_url)
        assert client.get("/").json() == 0


def _end_all_connections(url: str) -> None:
    parsed = sa.make_url(url)
    postgresql = parsed.get_backend_name() == "postgresql"
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg" if postgresql else "mysql+pymysql"), poolclass=NullPool
    )
    with engine.connect() as connection:
        if postgresql:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        else:
            ids = connection.exec_driver_sql(
                "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            ).scalars()
            for number in list(ids):
                connection.exec_driver_sql(f"KILL {number}")
