"""R37: two databases and several applications in one process never cross."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy

from .asgi import call
from .databases import Database, new_database

PAIRS = [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "mariadb")]


def model_of(db: SQLAlchemy) -> Any:
    class Note(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        side: Mapped[str] = mapped_column(sa.String(10))

    return Note


def app_of(sides: dict[str, SQLAlchemy], models: dict[str, Any], door: str) -> FastAPI:
    """Routes that store the name of the side they were asked for in that side's database."""
    app = FastAPI()
    if door == "middleware":
        app.add_middleware(DBSessionMiddleware, db=list(sides.values()), create_tables=False)

    def add(side: str, db: SQLAlchemy) -> None:
        async def current() -> Session:
            return db.session

        async def current_async() -> AsyncSession:
            return db.async_session

        given: Any = Depends(current if door == "middleware" else db.get_session)
        given_async: Any = Depends(current_async if door == "middleware" else db.get_async_session)

        @app.post(f"/{side}/sync")
        def store(session: Session = given) -> None:
            session.add(models[side](side=side))

        @app.post(f"/{side}/async")
        async def store_async(session: AsyncSession = given_async) -> None:
            session.add(models[side](side=side))
            await session.flush()

    for side, db in sides.items():
        add(side, db)

    if len(sides) == 2:
        first, second = sides.values()

        @app.post("/both/sync")
        def both() -> None:
            with first(commit_on_exit=True):
                first.session.add(models["first"](side="first"))
                with second(commit_on_exit=True):
                    second.session.add(models["second"](side="second"))

        @app.post("/both/async")
        async def both_async() -> None:
            async with first(commit_on_exit=True), second(commit_on_exit=True):
                first.async_session.add(models["first"](side="first"))
                second.async_session.add(models["second"](side="second"))

    return app


def wrong_rows(database: Database, side: str) -> int:
    with database.engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM note WHERE side <> :side"), {"side": side}) or 0)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_r37_two_databases_and_two_applications_never_cross(
    pair: tuple[str, str], tmp_path: Path, size: Callable[[int, int], int], seed: int, figure: Any
) -> None:
    n, chance = size(500, 10_000), random.Random(seed)
    with new_database(pair[0], tmp_path) as first, new_database(pair[1], tmp_path) as second:
        sides = {
            "first": SQLAlchemy(first.url, commit_on_exit=True),
            "second": SQLAlchemy(second.url, commit_on_exit=True),
        }
        models = {side: model_of(db) for side, db in sides.items()}
        apps: list[tuple[FastAPI, list[str]]] = []
        for door in ("middleware", "dependency"):
            apps += [(app_of({side: db}, models, door), [side]) for side, db in sides.items()]
            apps.append((app_of(sides, models, door), ["first", "second", "both"]))
        expected = {"first": 0, "second": 0}
        statuses: list[int] = []

        async def client() -> None:
            for _ in range(n // 20):
                app, known = chance.choice(apps)
                side = chance.choice(known)
                for name in expected:
                    expected[name] += side in (name, "both")
                status, _ = await call(app, "POST", f"/{side}/{chance.choice(['sync', 'async'])}")
                statuses.append(status)

        async def scenario() -> None:
            await asyncio.gather(*(client() for _ in range(20)))
            for db in sides.values():
                await db.adispose()

        for db in sides.values():
            db.create_all()
        asyncio.run(scenario())
        crossed = wrong_rows(first, "first") + wrong_rows(second, "second")
        stored = {
            side: base.scalar("SELECT count(*) FROM note") for side, base in (("first", first), ("second", second))
        }
        for db in sides.values():
            db.dispose()
        figure("R37", variant="-".join(pair), n=n, seed=seed, failures=crossed)
        assert set(statuses) == {200}
        assert (crossed, stored) == (0, expected)
