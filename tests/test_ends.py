"""The transaction of an async session ends by a task that no cancellation interrupts, where it has to wait at all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy

pytestmark = pytest.mark.anyio

READ = sa.select(sa.func.count()).select_from(sa.table("pg_class"))
WRITE = sa.text("CREATE TABLE IF NOT EXISTS ends (id int)")


@pytest.fixture(params=["psycopg", "asyncpg"])
async def db(postgres_url: str, request: pytest.FixtureRequest) -> Any:
    db = SQLAlchemy(postgres_url, async_url=postgres_url.replace("://", f"+{request.param}://"), commit_on_exit=True)
    yield db
    await db.adispose()


@contextmanager
def tasks() -> Iterator[list[str]]:
    """The names of the coroutines for which tasks are made meanwhile."""
    names = list[str]()
    loop = asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        names.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        yield names
    finally:
        loop.set_task_factory(before)


def pool_of(db: SQLAlchemy) -> Any:
    return db.async_engine.sync_engine.pool


async def test_what_only_read_ends_without_a_task_and_cannot_be_interrupted(db: SQLAlchemy) -> None:
    for _ in range(2):
        with tasks() as made:
            async with db():
                assert await db.async_session.scalar(READ)
                assert pool_of(db).checkedout() == 1
                names = list(made)
            assert made == names
        assert pool_of(db).checkedout() == 0


async def test_what_wrote_is_committed_by_a_task_of_its_own(db: SQLAlchemy) -> None:
    with tasks() as made:
        async with db():
            await db.async_session.execute(WRITE)
    assert any("_complete_both" in name for name in made)
    async with db():
        assert await db.async_session.scalar(sa.text("SELECT to_regclass('ends')::text")) == "ends"


async def test_a_cancellation_on_the_way_leaves_no_connection_behind(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url, async_url=postgres_url.replace("://", "+psycopg://"), commit_on_exit=True)

    async def read(statement: Any) -> None:
        async with db():
            await db.async_session.execute(statement)

    for statement in (READ, WRITE, sa.text("SELECT pg_sleep(0.01)")):
        await read(statement)
        for steps in range(12):
            task = asyncio.ensure_future(read(statement))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert pool_of(db).checkedout() == 0
    await db.adispose()


async def test_a_connection_that_its_pool_does_not_keep_is_closed_by_a_task(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url, async_engine_args={"pool_size": 1, "max_overflow": 1})
    with tasks() as made:
        async with db():
            await db.async_session.execute(READ)
            async with db():
                await db.async_session.execute(READ)
            assert made.count("Scope._complete_both") == 0  # the first one back is kept
        assert made.count("Scope._complete_both") == 1  # the second one is closed, for which the driver waits
    await db.adispose()
