"""What the package does at begins, statements and ends is done by the dialect: an engine has no events of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from fastapi_sqlalchemy import SQLAlchemy

pytestmark = pytest.mark.anyio


def listens(engine: Engine) -> list[str]:
    """The events of connections to which this engine itself has listeners."""
    dispatch: sa.event.base.dispatcher[Engine] = engine.dispatch
    return [name for name in dispatch._event_names if getattr(dispatch, name).for_modify(dispatch).listeners]


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
async def test_no_connection_joins_listeners_of_ours(
    database: str, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    fixtures = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
    url = sqlite_url if database == "sqlite" else request.getfixturevalue(fixtures[database])
    db = SQLAlchemy(url)
    for engine in (db.engine, db.async_engine.sync_engine):
        assert listens(engine) == []
    await db.adispose()


def test_a_listener_of_the_users_sees_what_it_always_saw(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    seen = list[str]()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: seen.append(name)

    for name in ("begin", "before_cursor_execute", "after_cursor_execute", "commit", "rollback"):
        sa.event.listen(db.engine, name, note(name))
    with db.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert seen == ["begin", "before_cursor_execute", "after_cursor_execute", "commit"]
    db.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_connection_with_a_level_of_its_own_reads_in_autocommit_again_afterwards(
    postgres_url: str, driver: str
) -> None:
    """The dialect sets the level back as the connection is returned, and would leave the driver out of autocommit."""
    db = SQLAlchemy(postgres_url, async_url=postgres_url.replace("://", f"+{driver}://"))
    engine = db.async_engine
    counted = sa.select(sa.func.count()).select_from(sa.table("pg_class"))
    async with engine.connect() as connection:
        levelled = await connection.execution_options(isolation_level="SERIALIZABLE")
        for _ in range(2):  # the second transaction on the same connection has the level too
            shown = await levelled.exec_driver_sql("SHOW transaction_isolation")
            assert shown.scalar() == "serializable"
            await levelled.rollback()
    async with engine.connect() as connection:
        await connection.execute(counted)
        raw = await connection.get_raw_connection()
        assert raw.dbapi_connection is not None
        assert raw.dbapi_connection.autocommit is True
    async with engine.begin() as connection:
        shown = await connection.exec_driver_sql("SHOW transaction_isolation")
        assert shown.scalar() == "read committed"
    await db.adispose()
