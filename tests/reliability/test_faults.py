"""R6: whichever call to the driver fails, nothing is half written, nothing is left behind, and the status is right."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy
from fastapi_sqlalchemy.exceptions import ConfigurationError
from fastapi_sqlalchemy.testing import DriverFaults

from .asgi import call
from .databases import new_database

DRIVERS = {
    "sqlite": ("sqlite", "sqlite"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "mariadb": ("mariadb", "mariadb"),
}
VERBS = ("GET", "POST", "PUT", "DELETE", "PATCH")


class Office:
    """Two rows, and routes that read, add, change, delete and refuse to change them, through every door."""

    def __init__(self, url: str) -> None:
        self.db = SQLAlchemy(url, commit_on_exit=True, engine_args={"pool_size": 2, "max_overflow": 0}, pool_timeout=2)
        db = self.db

        class Desk(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(20))

        self.Desk = Desk
        self.apps = {"middleware": FastAPI(), "dependency": FastAPI()}
        self.apps["middleware"].add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        for door, app in self.apps.items():
            self._add_routes(door, app)

    def _add_routes(self, door: str, app: FastAPI) -> None:
        db = self.db

        async def current() -> Session:
            return db.session

        async def current_async() -> AsyncSession:
            return db.async_session

        given: Any = Depends(current if door == "middleware" else db.get_session)
        given_async: Any = Depends(current_async if door == "middleware" else db.get_async_session)

        def add(verb: str) -> None:
            @app.api_route("/sync", methods=[verb])
            def sync(session: Session = given) -> int:
                return self.work(verb, session)

            @app.api_route("/async", methods=[verb])
            async def asynchronous(session: AsyncSession = given_async) -> int:
                return await session.run_sync(lambda inner: self.work(verb, inner))

        for verb in VERBS:
            add(verb)

    def work(self, verb: str, session: Any) -> int:
        rows = session.scalars(sa.select(self.Desk).order_by(self.Desk.id)).all()
        if verb == "POST":
            for name in ("new", "new"):
                session.add(self.Desk(name=name))
                session.flush()
        elif verb == "PUT":
            for row in rows:
                row.name = "changed"
                session.flush()
        elif verb in ("DELETE", "PATCH"):
            for row in rows:
                session.delete(row)
                session.flush()
        if verb == "PATCH":
            raise HTTPException(409)
        return len(rows)


OUTCOMES = {
    "GET": (200, ["old", "old"]),
    "POST": (200, ["new", "new", "old", "old"]),
    "PUT": (200, ["changed", "changed"]),
    "DELETE": (200, []),
    "PATCH": (409, ["old", "old"]),
}


def names(connection: sa.Connection) -> list[str]:
    return sorted(connection.execute(sa.text("SELECT name FROM desk")).scalars())


async def ask(
    office: Office, connection: sa.Connection, faults: DriverFaults, door: str, verb: str
) -> tuple[int, list[str]]:
    """One request among two old rows; returns its status and the names of the rows there are afterwards."""
    if names(connection) != ["old", "old"]:
        connection.execute(sa.text("DELETE FROM desk"))
        connection.execute(sa.text("INSERT INTO desk (name) VALUES ('old'), ('old')"))
    app, mode = door.split()
    with faults:
        try:
            status, _ = await call(office.apps[app], verb, f"/{mode}")
        except Exception:
            logging.getLogger(__name__).exception("The application raised")
            status = 500
    return status, names(connection)


async def fail_everywhere(office: Office, connection: sa.Connection, door: str, verb: str) -> tuple[int, list[str]]:
    """Fail every call in turn, in both manners; returns how many and what was wrong."""
    engines, wrong, number = (office.db.engine, office.db.async_engine), list[str](), 0
    succeeded, refused = OUTCOMES[verb], (503, ["old", "old"])
    for lose in (False, True):
        for at in range(1, 100):
            faults = DriverFaults(*engines, fail_at=at, lose_connection=lose)
            outcome = await ask(office, connection, faults, door, verb)
            case = f"{door} {verb}, call {at} ({faults.failed}, lose_connection={lose})"
            out = [engine.pool.checkedout() for engine in (engines[0], engines[1].sync_engine)]  # type: ignore[attr-defined]
            if out != [0, 0]:
                wrong.append(f"{case}: {out} checked out")
            if faults.failed is None:
                wrong += [] if outcome == succeeded else [f"{case}: {outcome} without a fault"]
                break
            number += 1
            if outcome not in (succeeded, refused):
                wrong.append(f"{case}: {outcome}, calls {faults.calls}")
    return number, wrong


@pytest.mark.parametrize("driver", DRIVERS)
def test_r6_any_driver_call_that_fails_leaves_all_or_nothing_and_the_right_status(
    driver: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    kind, drivername = DRIVERS[driver]
    with new_database(kind, tmp_path) as database:
        office = Office(database.with_driver(drivername))
        office.db.create_all()

        async def scenario(connection: sa.Connection) -> tuple[int, list[str]]:
            number, wrong = 0, list[str]()
            for door in ("middleware sync", "middleware async", "dependency sync", "dependency async"):
                for verb in VERBS:
                    failed, found = await fail_everywhere(office, connection, door, verb)
                    number += failed
                    wrong += found
            await office.db.adispose()
            return number, wrong

        with database.engine.connect() as connection:
            number, wrong = asyncio.run(scenario(connection))
        figure("R6", variant=driver, n=number, failures=len(wrong))
        assert wrong == []
        assert database.open_transactions() == 0


def test_faults_are_counted_named_and_undone(tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as database:
        db = SQLAlchemy(database.url)
        with DriverFaults(db.engine) as clean, db(), db.transaction() as session:
            session.execute(sa.text("CREATE TABLE made (id INTEGER)"))
        assert clean.calls[0] == "connect"
        assert "commit" in clean.calls
        assert clean.failed is None
        with (
            DriverFaults(db.engine, fail_at=1, only=["commit"]) as faults,
            pytest.raises(sa.exc.OperationalError),
            db(),
        ):
            db.session.execute(sa.text("INSERT INTO made VALUES (1)"))
            db.session.commit()
        assert faults.failed == "commit"
        assert database.scalar("SELECT count(*) FROM made") == 0
        with db():
            db.session.execute(sa.text("INSERT INTO made VALUES (2)"))
            db.session.commit()
        assert database.scalar("SELECT count(*) FROM made") == 1


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_answer_that_is_lost_leaves_the_row_and_raises(asynchronous: bool, tmp_path: Path) -> None:
    async def store(db: SQLAlchemy) -> None:
        async with db(commit_on_exit=True):
            await db.async_session.execute(sa.text("INSERT INTO made VALUES (1)"))

    with new_database("sqlite", tmp_path) as database:
        db = SQLAlchemy(database.url)
        database.run("CREATE TABLE made (id INTEGER)")

        async def scenario() -> None:
            with (
                DriverFaults(db.async_engine, fail_at=1, only=["commit"], lose_answer=True) as faults,
                pytest.raises(sa.exc.OperationalError),
            ):
                await store(db)
            assert faults.failed == "commit"
            await db.adispose()

        if asynchronous:
            asyncio.run(scenario())
        else:
            with (
                DriverFaults(db.engine, fail_at=1, only=["commit"], lose_answer=True) as faults,
                pytest.raises(sa.exc.OperationalError),
                db(commit_on_exit=True),
            ):
                db.session.execute(sa.text("INSERT INTO made VALUES (1)"))
            assert faults.failed == "commit"
        assert database.scalar("SELECT count(*) FROM made") == 1
        db.dispose()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_delay_makes_every_call_that_counts_take_longer(asynchronous: bool, tmp_path: Path) -> None:
    with new_database("sqlite", tmp_path) as database:
        db = SQLAlchemy(database.url)

        async def ask() -> None:
            with DriverFaults(db.async_engine, only=["execute"], delay=0.2):
                async with db():
                    await db.async_session.execute(sa.text("SELECT 1"))
            await db.adispose()

        begun = time.monotonic()
        if asynchronous:
            asyncio.run(ask())
        else:
            with DriverFaults(db.engine, only=["execute"], delay=0.2), db():
                db.session.execute(sa.text("SELECT 1"))
        assert time.monotonic() - begun >= 0.2
        db.dispose()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        DriverFaults(delay=-1)
    with pytest.raises(ConfigurationError, match="1 or more"):
        DriverFaults(fail_at=0)
    with pytest.raises(ConfigurationError, match="connect, execute"):
        DriverFaults(only=["fetch"])
