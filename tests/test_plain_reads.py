"""A plain read of PostgreSQL takes no transaction; everything else begins one first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastapi_sqlalchemy import SQLAlchemy

pytestmark = pytest.mark.anyio


@pytest.fixture
def db(postgres_url: str) -> Iterator[SQLAlchemy]:
    yield from prepared(SQLAlchemy(postgres_url))


@pytest.fixture(params=["psycopg", "asyncpg"])
def async_db(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[SQLAlchemy]:
    yield from prepared(SQLAlchemy(postgres_url, async_url=postgres_url.replace("://", f"+{request.param}://")))


def prepared(db: SQLAlchemy) -> Iterator[SQLAlchemy]:
    class Row(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]

    db.create_all()
    with db(commit_on_exit=True):
        db.session.add(Row(id=1, number=1))
    yield db
    db.dispose()


def table(db: SQLAlchemy) -> sa.Table:
    return db.metadata.tables["row"]


def in_transaction(db: SQLAlchemy, session: Session) -> bool:
    """What the server says of the session's own connection, asked on another one."""
    driver = session.connection().connection.driver_connection
    assert driver is not None
    with db.engine.connect() as other:
        state = other.scalar(
            sa.text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": driver.info.backend_pid}
        )
    return str(state) == "idle in transaction"


def test_a_plain_read_leaves_no_transaction_open(db: SQLAlchemy) -> None:
    with db():
        assert db.session.scalars(sa.select(table(db).c.number)).all() == [1]
        assert db.session.scalar(sa.select(sa.func.count()).select_from(table(db))) == 1
        assert not in_transaction(db, db.session)


@pytest.mark.parametrize(
    "statement",
    [
        lambda rows: sa.select(rows).with_for_update(),
        lambda rows: sa.select(sa.func.pg_advisory_xact_lock(7)),
        lambda rows: sa.select(sa.literal_column("txid_current()")),
        lambda rows: sa.text("SELECT 1"),
        lambda rows: sa.insert(rows).values(id=2, number=2),
        lambda rows: sa.select(sa.insert(rows).values(id=3, number=3).returning(rows.c.id).cte("added").c.id),
        lambda rows: sa.select(rows).where(rows.c.id.in_(sa.select(rows.c.id).with_for_update())),
    ],
    ids=["lock", "function", "literal", "text", "insert", "insert in a select", "lock in a subquery"],
)
def test_whatever_needs_a_transaction_has_one(db: SQLAlchemy, statement: Callable[[sa.Table], sa.Executable]) -> None:
    with db():
        for _ in range(2):
            db.session.execute(statement(table(db)))
            assert in_transaction(db, db.session)
            db.session.rollback()
            db.session.scalars(sa.select(table(db).c.number)).all()
            assert not in_transaction(db, db.session)
            db.session.rollback()
    with db():
        assert db.session.scalars(sa.select(table(db).c.number)).all() == [1]


def test_a_write_after_a_read_is_one_transaction_that_rolls_back_as_a_whole(db: SQLAlchemy) -> None:
    rows = table(db)
    with db():
        db.session.scalars(sa.select(rows.c.number)).all()
        with db.session.begin_nested():
            db.session.execute(sa.update(rows).values(number=2))
        db.session.execute(sa.insert(rows).values(id=2, number=2))
        db.session.rollback()
        assert db.session.scalars(sa.select(rows.c.number)).all() == [1]
        db.session.execute(sa.update(rows).values(number=3))
        db.session.commit()
        assert db.session.scalars(sa.select(rows.c.number)).all() == [3]


def test_an_isolation_level_of_ones_own_begins_with_the_first_read(db: SQLAlchemy) -> None:
    rows = table(db)
    with db():
        session = db.session
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert session.scalars(sa.select(rows.c.number)).all() == [1]
        with db.engine.begin() as other:
            other.execute(sa.update(rows).values(number=9))
        assert session.scalars(sa.select(rows.c.number)).all() == [1]
    for _ in range(2):
        with db():
            assert db.session.scalars(sa.select(rows.c.number)).all() == [9]
            assert not in_transaction(db, db.session)


def test_an_engine_with_an_isolation_level_is_left_alone(postgres_url: str) -> None:
    db = SQLAlchemy(postgres_url, engine_args={"isolation_level": "SERIALIZABLE"})
    with db():
        assert db.session.scalar(sa.select(sa.literal(1))) == 1
        assert in_transaction(db, db.session)
    db.dispose()


def test_a_server_side_cursor_has_its_transaction(db: SQLAlchemy) -> None:
    with db():
        result = db.session.execute(sa.select(table(db)).execution_options(yield_per=1))
        assert len(result.all()) == 1


async def test_async_sessions_commit_and_roll_back_what_they_wrote_after_a_read(async_db: SQLAlchemy) -> None:
    rows = table(async_db)
    async with async_db():
        session = async_db.async_session
        for number, ending in ((2, "rollback"), (3, "commit"), (4, "rollback")):
            await session.scalars(sa.select(rows.c.number))
            await session.execute(sa.update(rows).values(number=number))
            async with session.begin_nested():
                await session.execute(sa.insert(rows).values(id=number, number=number))
            await getattr(session, ending)()
        assert sorted(await session.scalars(sa.select(rows.c.number))) == [3, 3]
    await async_db.adispose()
