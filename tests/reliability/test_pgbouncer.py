"""PgBouncer in transaction mode: consecutive transactions of one connection run on different servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.doors import count_rows, make_database

from .conftest import eventually
from .replication import PgBouncer, Primary

pytestmark = pytest.mark.xdist_group("replication")

TASKS = 100
CLIENTS = {"pool_size": TASKS, "max_overflow": 0}


@pytest.fixture(scope="module")
def pooler(primary: Primary) -> Iterator[PgBouncer]:
    pooler = PgBouncer(primary, pool_size=2)
    yield pooler
    pooler.remove()


@pytest.fixture(params=["sync", "psycopg", "asyncpg"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(pooler: PgBouncer, driver: str) -> Iterator[tuple[SQLAlchemy, Any]]:
    url = pooler.url if driver == "sync" else pooler.url.replace("postgresql", f"postgresql+{driver}", 1)
    db, Item = make_database(url, pooler="pgbouncer", engine_args=CLIENTS, pool_timeout=60)
    db.drop_all(confirmed=True)
    db.create_all()
    yield db, Item
    db.dispose()


def test_r24_a_hundred_tasks_share_two_servers(
    bench: tuple[SQLAlchemy, Any], driver: str, size: Callable[[int, int], int], seed: int, figure: Any
) -> None:
    db, Item = bench
    n, chance = size(200, 10_000), random.Random(seed)
    names = [f"{number}" for number in range(n)]
    work = names.copy()
    errors: list[BaseException] = []

    def statements(name: str) -> list[Any]:
        """The same few texts again and again, as an application has them, and one that is new."""
        found = [
            sa.insert(Item).values(name=name),
            sa.select(Item.name).where(Item.name == name),
            sa.select(sa.func.count()).select_from(Item).where(Item.name < name),
            sa.select(Item.id, sa.literal(name)).where(Item.name == name).limit(chance.randrange(1, 9)),
        ]
        return [*found, *found[1:]]

    def in_thread() -> None:
        while work:
            try:
                name = work.pop()
                with db.transaction() as session:
                    for statement in statements(name):
                        session.execute(statement)
                with db():
                    assert db.session.scalar(sa.select(Item.name).where(Item.name == name)) == name
            except IndexError:
                return
            except Exception as error:
                errors.append(error)

    async def in_task() -> None:
        while work:
            name = work.pop()
            try:
                async with db.transaction() as session:
                    for statement in statements(name):
                        await session.execute(statement)
                async with db():
                    assert await db.async_session.scalar(sa.select(Item.name).where(Item.name == name)) == name
            except Exception as error:
                errors.append(error)

    async def in_tasks() -> None:
        try:
            await asyncio.gather(*(in_task() for _ in range(TASKS)))
        finally:
            await db.adispose()

    if driver == "sync":
        with ThreadPoolExecutor(TASKS) as pool:
            for _ in range(TASKS):
                pool.submit(in_thread)
    else:
        asyncio.run(in_tasks())
    missing = n - count_rows(db, Item)
    figure("R24", variant=driver, n=n, seed=seed, failures=len(errors) + missing)
    assert errors == []
    assert missing == 0


def test_the_statement_timeout_holds_and_does_not_stay_with_the_server(
    pooler: PgBouncer, driver: str, primary: Primary
) -> None:
    url = pooler.url if driver == "sync" else pooler.url.replace("postgresql", f"postgresql+{driver}", 1)
    db = SQLAlchemy(url, pooler="pgbouncer", statement_timeout=0.5)
    question = sa.select(sa.func.current_setting("statement_timeout"))
    slow = sa.select(sa.func.pg_sleep(100))

    async def ask() -> str:
        async with db():
            found = str(await db.async_session.scalar(question))
        async with db():
            with pytest.raises((sa.exc.DBAPIError, TimeoutError)):
                await db.async_session.execute(slow)
        await db.adispose()
        return found

    if driver == "sync":
        with db():
            found = str(db.session.scalar(question))
        with db(), pytest.raises(sa.exc.DBAPIError):
            db.session.execute(slow)
        db.dispose()
    else:
        found = asyncio.run(ask())
    assert found == "500ms"
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND state = 'active'"
    assert eventually(lambda: primary.run(f"{running} AND pid <> pg_backend_pid()") == 0)
    other = SQLAlchemy(pooler.url, pooler="pgbouncer", statement_timeout=None)
    for _ in range(4):
        with other():
            assert other.session.scalar(question) == "0"
    other.dispose()


def test_an_isolation_level_of_one_transaction_does_not_stay_with_the_connection(
    pooler: PgBouncer, driver: str, primary: Primary
) -> None:
    scheme = "postgresql" if driver == "sync" else f"postgresql+{driver}"
    db = SQLAlchemy(pooler.url.replace("postgresql", scheme, 1), pooler="pgbouncer", engine_args={"pool_size": 1})
    question = sa.select(sa.func.current_setting("transaction_isolation"))
    levels = ["SERIALIZABLE", None, "REPEATABLE READ", "AUTOCOMMIT", None]

    def ask(session: Any, level: str | None) -> str:
        if level is not None:
            session.connection(execution_options={"isolation_level": level})
        return str(session.scalar(question))

    async def ask_async() -> list[str]:
        found = list[str]()
        for level in levels:
            async with db():
                found.append(await db.async_session.run_sync(ask, level))
        await db.adispose()
        return found

    if driver == "sync":
        found = list[str]()
        for level in levels:
            with db():
                found.append(ask(db.session, level))
        db.dispose()
    else:
        found = asyncio.run(ask_async())
    assert found == ["serializable", "read committed", "repeatable read", "read committed", "read committed"]
    assert primary.run("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0
