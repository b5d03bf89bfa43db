"""R16: cancelled at any await point of its life, a unit of work leaves all its rows or none, and nothing behind."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy

from .asgi import call
from .cancelling import WAYS
from .databases import new_database

DRIVERS = {
    "aiosqlite": ("sqlite", "sqlite+aiosqlite"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "asyncmy": ("mariadb", "mariadb+asyncmy"),
}
ONE_HOP = ("db.run, greenlet",)


class House:
    """A database with one table, and each door as a unit of work that stores two rows."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url, commit_on_exit=True, engine_args={"pool_size": 2, "max_overflow": 0})
        db = self.db

        class Row(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(20))

        self.Row = Row
        self.apps = {"middleware": FastAPI(), "dependency": FastAPI()}
        self.apps["middleware"].add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        self._add_routes()
        self.doors: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            **{
                f"{door}, {path}": functools.partial(self.request, door, path)
                for door in self.apps
                for path in ("sync", "async")
            },
            "async with db()": self.own_scope,
            "async with db(), sync session": self.own_scope_sync,
            "db.transaction()": self.transaction,
            "db.transaction() in a scope": self.inner_transaction,
            "db.run, thread": functools.partial(self.run, use_async=False),
            "db.run, greenlet": functools.partial(self.run, use_async=True),
            "db.run in a scope": self.run_inside,
            "waiting for a connection": self.contended,
        }

    def store(self, session: Session) -> None:
        session.add(self.Row(name="one"))
        session.flush()
        session.add(self.Row(name="two"))
        session.flush()

    async def store_async(self, session: AsyncSession) -> None:
        session.add(self.Row(name="one"))
        await session.flush()
        session.add(self.Row(name="two"))
        await session.flush()

    def _add_routes(self) -> None:
        db = self.db

        @self.apps["middleware"].post("/sync")
        def by_session() -> None:
            self.store(db.session)

        @self.apps["middleware"].post("/async")
        async def by_async_session() -> None:
            await self.store_async(db.async_session)

        @self.apps["dependency"].post("/sync")
        def by_dependency(session: Session = Depends(db.get_session)) -> None:
            self.store(session)

        @self.apps["dependency"].post("/async")
        async def by_async_dependency(session: AsyncSession = Depends(db.get_async_session)) -> None:
            await self.store_async(session)

    async def request(self, door: str, path: str) -> None:
        status, body = await call(self.apps[door], "POST", f"/{path}")
        assert status == 200, body

    async def own_scope(self) -> None:
        async with self.db():
            await self.store_async(self.db.async_session)

    async def own_scope_sync(self) -> None:
        async with self.db():
            await anyio.to_thread.run_sync(self.store, self.db.session)

    async def transaction(self) -> None:
        async with self.db.transaction() as session:
            await self.store_async(session)

    async def inner_transaction(self) -> None:
        async with self.db(commit_on_exit=False):
            await self.db.async_session.scalar(sa.select(sa.func.count()).select_from(self.Row))
            async with self.db.transaction() as session:
                await self.store_async(session)

    async def run(self, *, use_async: bool) -> None:
        await self.db.run(self.store, use_async=use_async)

    async def run_inside(self) -> None:
        async with self.db():
            await self.db.run(self.store)

    async def contended(self) -> None:
        """Both connections are held by others for a while."""
        held, released = asyncio.Barrier(3), asyncio.Event()

        async def hold() -> None:
            async with self.db.async_engine.connect():
                await held.wait()
                await released.wait()

        holders = [asyncio.ensure_future(hold()) for _ in range(2)]
        try:
            await held.wait()
            asyncio.get_running_loop().call_later(0.002, released.set)
            await self.own_scope()
        finally:
            released.set()
            await held.abort()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*holders, return_exceptions=True)

    async def rows(self) -> int:
        async with self.db(commit_on_exit=False):
            found = await self.db.async_session.scalar(sa.select(sa.func.count()).select_from(self.Row))
        return int(found or 0)

    def left_behind(self) -> list[str]:
        """What should be gone: connections, places at the gate, worker threads, tasks."""
        found: list[str] = []
        for pool in (self.db.engine.pool, self.db.async_engine.pool):
            assert isinstance(pool, sa.QueuePool)
            gate: Any = getattr(pool, "gate", None)
            found += [f"{pool.checkedout()} checked out"] if pool.checkedout() else []
            found += ["a place at the gate"] if gate.held or gate.waiting else []
        limiter = anyio.to_thread.current_default_thread_limiter()
        found += ["a worker thread"] if limiter.borrowed_tokens or limiter.total_tokens != 40 else []
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return found + [f"a task: {task!r}" for task in others]


async def others_end() -> None:
    """Give the tasks in which a driver closes a cancelled connection a moment."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=2)


async def cancel_everywhere(house: House, door: str, way: str) -> tuple[int, list[str]]:
    """Cancel one door's work at every suspension in turn; returns how often, and what was wrong."""
    work, wrong = house.doors[door], []
    await work()
    before = await house.rows()
    for at in itertools.count(1):
        try:
            outcome = await asyncio.wait_for(WAYS[way](work, at), 20)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
            wrong.append(f"{door}, {way}, {at}: {outcome}")
            raise
        await others_end()
        wrong += [f"{door}, {way}, {at}, {outcome}: {what} was left behind" for what in house.left_behind()]
        if wrong:
            return at, wrong
        after = await house.rows()
        expected = {2} if outcome in ("done", "early") else {0, 2}
        if door in ONE_HOP:  # nobody waits for a COMMIT that was under way, so that it may be seen a moment later
            expected |= {2, 4}
        if after - before not in expected:
            wrong.append(f"{door}, {way}, {at}, {outcome}: {after - before} rows")
        before = after
        if outcome == "early":
            return at - 1, wrong
    raise AssertionError("unreachable")


@pytest.mark.parametrize("driver", DRIVERS)
def test_r16_a_cancelled_unit_of_work_leaves_nothing_behind(
    driver: str, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    kind, drivername = DRIVERS[driver]
    cancelled, wrong = 0, list[str]()
    with new_database(kind, tmp_path) as database:
        for _ in range(size(1, 100)):
            for door in House(database.with_driver(drivername)).doors:
                house = House(database.with_driver(drivername))
                house.db.create_all()
                number, found = asyncio.run(scenario(house, door))
                cancelled += number
                wrong += found
                if idle := database.open_transactions():
                    wrong.append(f"{door}: {idle} transactions left open")
                house.db.dispose()
        figure("R16", variant=driver, n=cancelled, failures=len(wrong))
        assert wrong == []


async def scenario(house: House, door: str) -> tuple[int, list[str]]:
    cancelled, wrong = 0, list[str]()
    for way in WAYS:
        number, found = await cancel_everywhere(house, door, way)
        cancelled += number
        wrong += found
    await house.db.adispose()
    return cancelled, wrong
