"""``db.transaction()``: all or nothing, savepoints inside, retries of what the database gave up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import TransactionUsageError
from fastapi_sqlalchemy.transactions import is_conflict
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door, count_rows, make_database


@pytest.fixture
def bench(database_url: str) -> tuple[SQLAlchemy, Any]:
    db, Item = make_database(database_url)
    db.create_all()
    return db, Item


def _names(db: SQLAlchemy, Item: Any) -> list[str]:
    with db.engine.connect() as connection:
        return list(connection.scalars(sa.select(Item.name).order_by(Item.name)))


async def _finish(db: SQLAlchemy, work: Any) -> Any:
    try:
        return await work
    finally:
        await db.adispose()


# Alone: a scope of its own.


def test_a_block_commits_a_clean_end_and_rolls_back_an_error(bench: Any) -> None:
    db, Item = bench
    with db.transaction() as session:
        assert session is db.session
        session.add(Item(name="kept"))
    with pytest.raises(KeyError), db.transaction() as session:
        session.add(Item(name="lost"))
        session.flush()
        raise KeyError
    assert _names(db, Item) == ["kept"]


def test_an_async_block_commits_a_clean_end_and_rolls_back_an_error(bench: Any) -> None:
    db, Item = bench

    async def main() -> None:
        async with db.transaction() as session:
            assert session is db.async_session
            session.add(Item(name="kept"))
        with pytest.raises(KeyError):
            async with db.transaction() as session:
                session.add(Item(name="lost"))
                await session.flush()
                raise KeyError

    asyncio.run(_finish(db, main()))
    assert _names(db, Item) == ["kept"]


def test_a_decorator_gives_each_call_a_transaction_of_its_own(bench: Any) -> None:
    db, Item = bench

    @db.transaction()
    def add(name: str, *, fail: bool = False) -> str:
        db.session.add(Item(name=name))
        if fail:
            raise KeyError
        return name

    @db.transaction()
    async def add_async(name: str, *, fail: bool = False) -> str:
        db.async_session.add(Item(name=name))
        if fail:
            raise KeyError
        return name

    assert add("a") == "a"
    with pytest.raises(KeyError):
        add("b", fail=True)

    async def main() -> None:
        assert await add_async("c") == "c"
        with pytest.raises(KeyError):
            await add_async("d", fail=True)

    asyncio.run(_finish(db, main()))
    assert (add.__name__, add_async.__name__) == ("add", "add_async")
    assert _names(db, Item) == ["a", "c"]


def test_one_decorated_function_serves_many_threads(bench: Any) -> None:
    db, Item = bench

    @db.transaction()
    def add(name: str) -> None:
        db.session.add(Item(name=name))

    threads = [threading.Thread(target=add, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_rows(db, Item) == 8


# Nested: savepoints.


def test_a_block_inside_a_block_is_a_savepoint(bench: Any) -> None:
    db, Item = bench
    with db.transaction() as session:
        session.add(Item(name="outer"))
        with db.transaction() as inner:
            assert inner is session
            inner.add(Item(name="released"))
        with pytest.raises(KeyError), db.transaction():
            session.add(Item(name="undone"))
            with db.transaction():
                session.add(Item(name="undone too"))
            raise KeyError
    assert _names(db, Item) == ["outer", "released"]


def test_what_a_savepoint_released_goes_with_the_outer_rollback(bench: Any) -> None:
    db, Item = bench
    with pytest.raises(KeyError), db.transaction() as session:
        with db.transaction():
            session.add(Item(name="released"))
        raise KeyError
    assert _names(db, Item) == []


def test_async_blocks_nest_alike(bench: Any) -> None:
    db, Item = bench

    async def main() -> None:
        async with db.transaction() as session:
            session.add(Item(name="outer"))
            async with db.transaction():
                session.add(Item(name="released"))
            with pytest.raises(KeyError):
                async with db.transaction():
                    session.add(Item(name="undone"))
                    raise KeyError

    asyncio.run(_finish(db, main()))
    assert _names(db, Item) == ["outer", "released"]


def test_a_broken_constraint_inside_a_savepoint_leaves_the_outer_block_usable(bench: Any) -> None:
    db, Item = bench
    with db.transaction() as session:
        session.add(Item(name="a"))
        with pytest.raises(sa.exc.IntegrityError), db.transaction():
            session.add(Item(name="a"))
        session.add(Item(name="b"))
    assert _names(db, Item) == ["a", "b"]


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_a_block_in_a_commit_on_exit_request_is_a_savepoint_of_it(sqlite_url: str, door: Door) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = door.app(db)

    async def in_block(fail: bool) -> None:
        async with db.transaction() as session:
            session.add(Item(name="inner"))
            if fail:
                raise KeyError

    def work(session: Any) -> Any:
        session.add(Item(name="outer"))
        if door.asynchronous:
            from sqlalchemy.util import await_only

            with pytest.raises(KeyError):
                await_only(in_block(True))
            await_only(in_block(False))
        else:
            with pytest.raises(KeyError), db.transaction():
                session.add(Item(name="inner"))
                raise KeyError
            with db.transaction():
                session.add(Item(name="inner"))
        return JSONResponse({}, status_code=200)

    door.route(app, db, "/", work)
    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert _names(db, Item) == ["inner", "outer"]


def test_a_block_in_a_scope_that_does_not_commit_commits(bench: Any) -> None:
    db, Item = bench
    with db():
        assert db.session.query(Item).count() == 0
        with db.transaction():
            Item.new(name="a")
            assert count_rows(db, Item) == 0
        assert count_rows(db, Item) == 1
        with pytest.raises(KeyError), db.transaction():
            Item.new(name="b")
            raise KeyError
        Item.new(name="c")
    assert _names(db, Item) == ["a", "c"]


def test_a_block_inside_session_begin_is_a_savepoint(bench: Any) -> None:
    db, Item = bench
    with db(), pytest.raises(KeyError), db.session.begin():
        with db.transaction():
            Item.new(name="a")
        raise KeyError
    assert _names(db, Item) == []


def test_abort_inside_a_block_rolls_it_back(bench: Any) -> None:
    db, Item = bench
    with db.transaction():
        Item.new(name="a")
        db.abort()
    assert _names(db, Item) == []


def test_a_decorated_endpoint_that_answers_400_rolls_back(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/{status}")
    @db.transaction()
    def endpoint(status: int) -> JSONResponse:
        Item.new(name=str(status))
        return JSONResponse({}, status_code=status)

    with TestClient(app) as client:
        assert [client.post(f"/{status}").status_code for status in (200, 400)] == [200, 400]
    assert _names(db, Item) == ["200"]


# Misuse.


def test_retries_need_a_function(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    with pytest.raises(TransactionUsageError, match=r"@db\.transaction\(retries=2\)"), db.transaction(retries=2):
        pass

    async def main() -> None:
        async with db.transaction(retries=2):
            pass

    with pytest.raises(TransactionUsageError, match=r"@db\.transaction\(retries=2\)"):
        asyncio.run(main())
    with pytest.raises(TransactionUsageError):
        db.transaction(retries=-1)


def test_a_generator_cannot_be_decorated(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)

    def rows() -> Iterator[int]:
        yield 1

    async def more_rows() -> Any:
        yield 1

    for function in (rows, more_rows):
        with pytest.raises(TransactionUsageError, match="generator"):
            db.transaction()(function)


# Retries, with conflicts that the servers really report.


def _accounts(url: str, **options: Any) -> tuple[SQLAlchemy, Any]:
    db = SQLAlchemy(url, **options)

    class Account(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        balance: Mapped[int]

    db.create_all()
    with db(commit_on_exit=True):
        db.session.add_all([Account(id=1, balance=0), Account(id=2, balance=0)])
    return db, Account


@pytest.mark.backends("postgresql", "mariadb")
def test_a_deadlock_is_run_again(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    db, Account = _accounts(database_url)
    both_hold_one = threading.Barrier(2)
    runs: list[int] = []

    @db.transaction(retries=3)
    def transfer(first: int, second: int) -> None:
        runs.append(first)
        db.session.execute(sa.update(Account).where(Account.id == first).values(balance=Account.balance + 1))
        if len(runs) <= 2:
            both_hold_one.wait(10)
        db.session.execute(sa.update(Account).where(Account.id == second).values(balance=Account.balance + 1))

    threads = [threading.Thread(target=transfer, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db():
        assert [account.balance for account in Account.get_all()] == [2, 2]
    assert 3 <= len(runs) <= 5


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("driver", ["", "+asyncpg"])
def test_an_async_deadlock_is_run_again(database_url: str, driver: str) -> None:
    if driver and not database_url.startswith("postgresql"):
        pytest.skip("a driver of PostgreSQL")
    db, Account = _accounts(database_url.replace("postgresql:", f"postgresql{driver}:"))
    runs: list[int] = []

    async def main() -> None:
        both_hold_one = asyncio.Barrier(2)

        @db.transaction(retries=3)
        async def transfer(first: int, second: int) -> None:
            runs.append(first)
            session = db.async_session
            await session.execute(sa.update(Account).where(Account.id == first).values(balance=Account.balance + 1))
            if len(runs) <= 2:
                await both_hold_one.wait()
            await session.execute(sa.update(Account).where(Account.id == second).values(balance=Account.balance + 1))

        await asyncio.gather(transfer(1, 2), transfer(2, 1))

    asyncio.run(_finish(db, main()))
    with db():
        assert [account.balance for account in Account.get_all()] == [2, 2]
    assert 3 <= len(runs) <= 5


@pytest.mark.backends("postgresql", "mariadb")
def test_a_deadlock_inside_a_savepoint_keeps_its_error_and_is_run_again_by_the_outer_block(database_url: str) -> None:
    db, Account = _accounts(database_url)
    both_hold_one = threading.Barrier(2)
    runs: list[int] = []
    failures: list[BaseException] = []

    @db.transaction(retries=3)
    def transfer(first: int, second: int) -> None:
        runs.append(first)
        db.session.execute(sa.update(Account).where(Account.id == first).values(balance=Account.balance + 1))
        if len(runs) <= 2:
            both_hold_one.wait(10)
        try:
            with db.transaction():
                db.session.execute(sa.update(Account).where(Account.id == second).values(balance=Account.balance + 1))
        except sa.exc.DBAPIError as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=transfer, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures
    assert all(map(is_conflict, failures))
    with db():
        assert [account.balance for account in Account.get_all()] == [2, 2]


@pytest.mark.backends("postgresql")
def test_a_serialization_failure_runs_at_most_four_times_and_then_shows(database_url: str) -> None:
    db, Account = _accounts(database_url, engine_args={"isolation_level": "REPEATABLE READ"})
    runs: list[int] = []

    @db.transaction(retries=3)
    def lose() -> None:
        runs.append(1)
        account = db.session.get(Account, 1)
        with db.engine.begin() as other:
            other.execute(sa.update(Account).where(Account.id == 1).values(balance=Account.balance + 10))
        account.balance += 1
        db.session.flush()

    with pytest.raises(sa.exc.OperationalError) as caught:
        lose()
    assert is_conflict(caught.value)
    assert len(runs) == 4
    with db():
        assert Account.get(1).balance == 40


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("commit_on_exit", [False, True])
def test_a_serialization_failure_in_a_request_is_run_again(database_url: str, commit_on_exit: bool) -> None:
    db, Account = _accounts(
        database_url, commit_on_exit=commit_on_exit, engine_args={"isolation_level": "REPEATABLE READ"}
    )
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    runs: list[int] = []

    @app.post("/")
    @db.transaction(retries=3)
    def endpoint() -> int:
        runs.append(1)
        account = db.session.get(Account, 1)
        if len(runs) == 1:
            with db.engine.begin() as other:
                other.execute(sa.update(Account).where(Account.id == 1).values(balance=Account.balance + 10))
        account.balance += 1
        db.session.flush()
        return int(account.balance)

    with TestClient(app) as client:
        answer = client.post("/")
    assert (answer.status_code, answer.json(), len(runs)) == (200, 11, 2)
    with db():
        assert Account.get(1).balance == 11


@pytest.mark.backends("postgresql")
def test_a_conflict_after_other_writes_of_the_request_is_not_run_again(database_url: str) -> None:
    db, Account = _accounts(database_url, commit_on_exit=True, engine_args={"isolation_level": "REPEATABLE READ"})
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    runs: list[int] = []

    @db.transaction(retries=3)
    def change() -> None:
        runs.append(1)
        account = db.session.get(Account, 1)
        with db.engine.begin() as other:
            other.execute(sa.update(Account).where(Account.id == 1).values(balance=Account.balance + 10))
        account.balance += 1
        db.session.flush()

    @app.post("/")
    def endpoint() -> None:
        db.session.add(Account(id=3, balance=0))
        db.session.flush()
        change()

    with TestClient(app) as client:
        answer = client.post("/")
    assert answer.status_code == 409
    assert int(answer.headers["retry-after"]) >= 0
    assert len(runs) == 1
    with db():
        assert Account.get(3) is None


@pytest.mark.backends("postgresql")
def test_a_lost_commit_is_never_run_again(database_url: str) -> None:
    db, Account = _accounts(database_url)
    runs: list[int] = []

    @event.listens_for(db.engine, "commit")
    def cut(connection: sa.Connection) -> None:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        other = sa.create_engine(db.engine.url, poolclass=sa.NullPool)
        with other.connect() as killer:
            killer.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    @db.transaction(retries=3)
    def change() -> None:
        runs.append(1)
        db.session.get(Account, 1).balance += 1

    with pytest.raises(sa.exc.OperationalError) as caught:
        change()
    assert not is_conflict(caught.value)
    assert len(runs) == 1


def test_another_error_is_not_run_again(bench: Any) -> None:
    db, Item = bench
    runs: list[int] = []

    @db.transaction(retries=3)
    def add() -> None:
        runs.append(1)
        db.session.add_all([Item(name="a"), Item(name="a")])

    with pytest.raises(sa.exc.IntegrityError):
        add()
    assert len(runs) == 1


def test_sqlite_runs_a_read_that_became_a_write_too_late_again(sqlite_url: str) -> None:
    db, Account = _accounts(sqlite_url, sqlite={"begin": "deferred"})
    runs: list[int] = []

    @db.transaction(retries=3)
    def change() -> None:
        runs.append(1)
        account = db.session.get(Account, 1)
        if len(runs) == 1:
            with db.engine.begin() as other:
                other.execute(sa.update(Account).where(Account.id == 1).values(balance=Account.balance + 10))
        account.balance += 1

    change()
    assert len(runs) == 2
    with db():
        assert Account.get(1).balance == 11


def test_concurrent_increments_of_one_row_are_never_lost(sqlite_url: str) -> None:
    db, Account = _accounts(sqlite_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db, commit_on_exit=True)

    @app.post("/")
    def endpoint() -> None:
        Account.get(1).balance += 1

    async def main() -> list[int]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            return [answer.status_code for answer in await asyncio.gather(*(client.post("/") for _ in range(40)))]

    assert asyncio.run(main()) == [200] * 40
    with db():
        assert Account.get(1).balance == 40
