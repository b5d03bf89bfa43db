"""SQLite made to behave: enforced keys, WAL, real transactions, one memory database for all."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.exceptions import ConfigurationError
from tests.support.doors import count_rows, make_database

Work = Callable[[Session], Any]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def within(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs ``work(session)`` in a scope of its own, sync or async."""

    def run(db: SQLAlchemy, work: Work, **options: Any) -> Any:
        if not request.param:
            with db(**options):
                return work(db.session)

        async def main() -> Any:
            async with db(**options):
                return await db.async_session.run_sync(work)

        return asyncio.run(main())

    return run


def _pragma(name: str) -> Work:
    return lambda session: session.execute(sa.text(f"PRAGMA {name}")).scalar()


# Settings.


def test_every_connection_has_the_safe_settings(sqlite_url: str, within: Any) -> None:
    db = SQLAlchemy(sqlite_url)
    assert within(db, _pragma("foreign_keys")) == 1
    assert within(db, _pragma("journal_mode")) == "wal"
    assert within(db, _pragma("busy_timeout")) == 5000


def test_each_setting_can_be_set(sqlite_url: str, within: Any) -> None:
    db = SQLAlchemy(sqlite_url, sqlite={"foreign_keys": False, "journal_mode": "delete", "busy_timeout": 0.25})
    assert within(db, _pragma("foreign_keys")) == 0
    assert within(db, _pragma("journal_mode")) == "delete"
    assert within(db, _pragma("busy_timeout")) == 250


def test_each_setting_can_be_left_to_sqlite(sqlite_url: str, within: Any) -> None:
    settings = {"foreign_keys": None, "journal_mode": None, "busy_timeout": None, "begin": None}
    db = SQLAlchemy(sqlite_url, sqlite=settings)
    assert within(db, _pragma("foreign_keys")) == 0
    assert within(db, _pragma("journal_mode")) == "delete"
    isolation = within(
        db,
        lambda session: session.connection().connection.dbapi_connection.isolation_level,  # type: ignore[union-attr]
    )
    assert isolation == ""


def test_a_journal_mode_that_does_not_exist_is_refused(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url, sqlite={"journal_mode": "wal; DROP TABLE user"})
    with pytest.raises(ConfigurationError, match="no journal mode"), db():
        db.session.execute(sa.select(1))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    db = SQLAlchemy(f"sqlite:///{tmp_path}/missing/app.db")
    with pytest.raises(ConfigurationError, match=f"does not exist: {tmp_path}/missing"):
        _ = db.engine

    async def main() -> None:
        _ = db.async_engine

    with pytest.raises(ConfigurationError, match="does not exist"):
        asyncio.run(main())


def test_a_file_that_is_no_database_is_an_error_of_the_database(tmp_path: Path, within: Any) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header of its own " * 20)
    with pytest.raises(sa.exc.DatabaseError, match="not a database"):
        within(SQLAlchemy(f"sqlite:///{path}"), _pragma("user_version"))


def test_a_read_only_file_can_be_read(sqlite_url: str, within: Any) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()
    db.dispose()
    reader = SQLAlchemy(sqlite_url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true")
    assert within(reader, lambda session: session.query(Item).count()) == 0
    with pytest.raises(sa.exc.OperationalError, match="readonly"):
        within(reader, lambda session: session.execute(sa.insert(Item).values(name="a")))


# Transactions.


def test_foreign_keys_hold(sqlite_url: str, within: Any) -> None:
    db = SQLAlchemy(sqlite_url, commit_on_exit=True)

    class Parent(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(sa.ForeignKey("parent.id"))

    db.create_all()
    with pytest.raises(sa.exc.IntegrityError):
        within(db, lambda session: session.execute(sa.insert(Child).values(id=1, parent_id=1)))


def test_ddl_is_rolled_back(sqlite_url: str, within: Any) -> None:
    db = SQLAlchemy(sqlite_url)

    def create(session: Session) -> None:
        session.execute(sa.text("CREATE TABLE lost (id INTEGER)"))
        session.execute(sa.text("INSERT INTO lost VALUES (1)"))
        session.rollback()

    within(db, create)
    assert sa.inspect(db.engine).get_table_names() == []


def test_what_a_released_savepoint_wrote_goes_with_the_outer_rollback(sqlite_url: str, within: Any) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    def work(session: Session) -> None:
        with session.begin_nested():
            session.add(Item(name="a"))
        session.rollback()

    within(db, work)
    assert count_rows(db, Item) == 0


def test_a_savepoint_that_is_rolled_back_keeps_what_came_before(sqlite_url: str, within: Any) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    def work(session: Session) -> None:
        session.add(Item(name="kept"))
        savepoint = session.begin_nested()
        session.add(Item(name="lost"))
        session.flush()
        savepoint.rollback()
        session.commit()

    within(db, work)
    with db():
        assert [item.name for item in Item.get_all()] == ["kept"]


def _begins(db: SQLAlchemy, work: Callable[[], Any]) -> list[str]:
    """The BEGIN statements that SQLite itself sees while ``work`` runs."""
    seen: list[str] = []

    @event.listens_for(db.engine, "connect")
    def trace(connection: Any, record: Any) -> None:
        connection.set_trace_callback(seen.append)

    db.dispose()
    work()
    return [statement for statement in seen if statement.startswith("BEGIN")]


def test_readers_begin_deferred_and_writers_immediate(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    def work() -> None:
        with db():
            Item.get_all()
        with db():
            Item.new(name="a")
        with db(commit_on_exit=True):
            Item.get_all()
        with db.transaction():
            Item.get_all()

    assert _begins(db, work) == ["BEGIN", "BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "BEGIN IMMEDIATE"]


def test_begin_can_be_deferred_for_writers_too(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, sqlite={"begin": "deferred"})
    db.create_all()

    def work() -> None:
        with db.transaction():
            Item.new(name="a")

    assert _begins(db, work) == ["BEGIN"]


def test_autocommit_of_one_connection_begins_nothing(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    def work() -> None:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.insert(Item).values(name="a"))
            connection.execute(sa.text("VACUUM"))

    assert _begins(db, work) == []
    assert count_rows(db, Item) == 1


def test_a_reader_is_not_held_up_by_a_writer(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, sqlite={"busy_timeout": 0.01})
    db.create_all()
    with db.transaction():
        Item.new(name="a")
        assert count_rows(db, Item) == 0
        with db():
            assert Item.get_all() == []


def test_two_writers_wait_for_each_other(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(10):
                with db(commit_on_exit=True):
                    Item.get_all()
                    Item.new(name=f"{number}-{turn}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert count_rows(db, Item) == 60


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_commit_that_failed_leaves_no_transaction_on_the_connection(sqlite_url: str, asynchronous: bool) -> None:
    one = {"pool_size": 1, "max_overflow": 0}
    db = SQLAlchemy(sqlite_url, engine_args=one)

    class Node(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        late_id: Mapped[int] = mapped_column(sa.ForeignKey("node.id", deferrable=True, initially="DEFERRED"))

    db.create_all()
    insert = sa.insert(Node).values(id=1, late_id=99)

    async def use_async() -> None:
        async with db.async_engine.connect() as connection:
            await connection.execute(insert)
            with pytest.raises(sa.exc.IntegrityError):
                await connection.commit()
        async with db():
            assert await Node.aget_all() == []
        await db.adispose()

    if asynchronous:
        asyncio.run(use_async())
        return
    with db.engine.connect() as connection:
        connection.execute(insert)
        with pytest.raises(sa.exc.IntegrityError):
            connection.commit()
    with db():
        assert Node.get_all() == []


# Memory.


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"]
)
def test_a_memory_database_is_one_for_all_threads_and_both_engines(url: str) -> None:
    db, Item = make_database(url, commit_on_exit=True)
    db.create_all()

    def write() -> None:
        with db():
            Item.new(name="thread")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()

    async def main() -> list[str]:
        async with db():
            await Item.anew(name="async")
            return sorted(item.name for item in await Item.aget_all())

    assert asyncio.run(main()) == ["async", "thread"]
    assert count_rows(db, Item) == 2


def test_two_memory_databases_never_cross() -> None:
    (one, First), (two, Second) = make_database("sqlite://"), make_database("sqlite://")
    for db in (one, two):
        db.create_all()
    with one():
        First.new(name="a")
    assert (count_rows(one, First), count_rows(two, Second)) == (1, 0)


def test_a_memory_database_leaves_no_file_behind() -> None:
    db = SQLAlchemy("sqlite://")
    with db():
        path = db.session.execute(sa.text("PRAGMA database_list")).first()[2]  # type: ignore[index]
    assert os.path.exists(path)
    del db
    gc.collect()  # the database, whose end lets go of its engine
    gc.collect()
    assert not os.path.exists(path)


def test_a_statement_that_takes_too_long_is_interrupted_and_the_connection_goes_on(
    sqlite_url: str, within: Any
) -> None:
    db = SQLAlchemy(sqlite_url, statement_timeout=0.2)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

    def work(session: Session) -> Any:
        with pytest.raises(sa.exc.OperationalError, match="interrupted"):
            session.execute(sa.text(endless))
        session.rollback()
        return session.execute(sa.text("SELECT 1")).scalar()

    assert within(db, work) == 1
