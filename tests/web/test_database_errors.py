"""Every database error that a request can cause has its class, on every driver; every other error has none."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.util import await_only, greenlet_spawn

from fastapi_sqlalchemy.exceptions import PoolQueueFullError, PoolTimeoutError
from fastapi_sqlalchemy.models.naming import NAMING_CONVENTION
from fastapi_sqlalchemy.web.problems import Problem, ProblemResponse, problem_for
from tests.support.databases import note_part, server_url, temporary_database

POSTGRESQL = {
    "psycopg": "postgresql+psycopg",
    "psycopg_async": "postgresql+psycopg_async",
    "asyncpg": "postgresql+asyncpg",
}
MARIADB = {"pymysql": "mysql+pymysql", "asyncmy": "mysql+asyncmy"}
SQLITE = {"sqlite3": "sqlite", "aiosqlite": "sqlite+aiosqlite"}
SYNCHRONOUS = ("sqlite3", "psycopg", "pymysql")
servers_only = pytest.mark.parametrize("bench", [*POSTGRESQL, *MARIADB], indirect=True, scope="module")
postgresql_only = pytest.mark.parametrize("bench", [*POSTGRESQL], indirect=True, scope="module")
mariadb_only = pytest.mark.parametrize("bench", [*MARIADB], indirect=True, scope="module")
CANARY = "canary"

metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
sa.Table(
    "owner",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first", sa.String(20)),
    sa.Column("last", sa.String(20)),
    sa.UniqueConstraint("first", "last"),
)
item = sa.Table(
    "item",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner_id", sa.ForeignKey("owner.id")),
    sa.Column("email", sa.String(20), unique=True),
    sa.Column("slug", sa.String(20), index=True, unique=True),
    sa.Column("size", sa.SmallInteger, nullable=False),
    sa.Column("price", sa.Integer),
    sa.Column("late_id", sa.Integer),
    sa.Column("day", sa.Date),
    sa.CheckConstraint("price > 0", name="price_positive"),
    sa.ForeignKeyConstraint(["late_id"], ["owner.id"], name="fk_late").ddl_if(dialect="mysql"),
    sa.ForeignKeyConstraint(["late_id"], ["owner.id"], deferrable=True, initially="DEFERRED", name="fk_late").ddl_if(
        callable_=lambda _ddl, _target, _bind, **given: given["dialect"].name != "mysql"
    ),
)


class Bench:
    """One driver and its database; work is written once over a synchronous Connection."""

    def __init__(self, driver: str, url: str) -> None:
        self.driver = driver
        self.url = url
        self.runner = None if driver in SYNCHRONOUS else asyncio.Runner()
        self.engine = self.make_engine(poolclass=NullPool)

    @property
    def family(self) -> str:
        return self.engine.dialect.name

    def make_engine(self, url: str | None = None, **options: Any) -> sa.Engine:
        if self.runner is None:
            engine = sa.create_engine(url or self.url, **options)
        else:
            engine = create_async_engine(url or self.url, **options).sync_engine
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _set_up_sqlite)
        return engine

    def call(self, *work: Callable[[], Any]) -> list[Any]:
        """Run all the functions at once, each in a thread or a greenlet of its own; an error is a result."""
        if self.runner is not None:
            return self.runner.run(_gather(work))
        with ThreadPoolExecutor(len(work)) as threads:
            futures = [threads.submit(one) for one in work]
            return [future.exception() or future.result() for future in futures]

    def fail(self, work: Callable[[sa.Connection], Any]) -> BaseException:
        """Run a transaction that must fail, and return its error."""

        def transaction() -> None:
            with self.engine.connect() as connection:
                if self.family == "sqlite":
                    connection.exec_driver_sql("BEGIN")
                work(connection)
                connection.commit()

        (error,) = self.call(transaction)
        assert isinstance(error, Exception)
        return error

    def fail_statement(self, statement: str) -> BaseException:
        return self.fail(lambda connection: connection.exec_driver_sql(statement))

    def close(self) -> None:
        self.call(self.engine.dispose)
        if self.runner is not None:
            self.runner.close()


async def _gather(work: tuple[Callable[[], Any], ...]) -> list[Any]:
    return await asyncio.gather(*(greenlet_spawn(one) for one in work), return_exceptions=True)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "busy_timeout = 0"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _database_for(driver: str, folder: Path) -> Iterator[str]:
    if driver in SQLITE:
        note_part("sqlite", f"SQLite {sqlite3.sqlite_version}")
        yield f"{SQLITE[driver]}:///{folder / 'test.db'}"
        return
    name = "postgresql" if driver in POSTGRESQL else "mariadb"
    if server_url(name) is None:
        pytest.skip(f"NO {name.upper()} SERVER TAKES PART")
    with temporary_database(name) as url:
        drivername = {**POSTGRESQL, **MARIADB}[driver]
        yield sa.make_url(url).set(drivername=drivername).render_as_string(hide_password=False)


@pytest.fixture(scope="module", params=[*SQLITE, *POSTGRESQL, *MARIADB])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A driver with a database that holds an owner with an item, and a second owner."""
    database = contextmanager(_database_for)(request.param, tmp_path_factory.mktemp("errors"))
    with database as url:
        yield from _bench(request.param, url)


def _bench(driver: str, url: str) -> Iterator[Bench]:
    bench = Bench(driver, url)

    def set_up() -> None:
        metadata.drop_all(bench.engine)
        metadata.create_all(bench.engine)
        with bench.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO owner (id, first, last) VALUES (1, 'a', 'b'), (2, 'c', 'd')"))
            connection.execute(
                sa.text("INSERT INTO item (id, owner_id, email, slug, size) VALUES (1, 1, 'canary@x', 'canary', 1)")
            )

    (result,) = bench.call(set_up)
    assert result is None, result
    yield bench
    bench.close()


def check(error: BaseException, code: str, status: int) -> Problem:
    problem = problem_for(error, metadata)
    assert problem is not None, error
    assert (problem.code, problem.status) == (code, status)
    assert problem.type == "about:blank"
    assert problem.title
    assert problem.detail.endswith(".")
    retry = code in ("conflict", "timeout", "database_unavailable")
    assert problem.headers == ({"Retry-After": "1"} if retry else {})
    body = ProblemResponse(problem).body.decode()
    for leak in (CANARY, "SELECT", "INSERT", "127.0.0.1", "postgres", "root", "999999"):
        assert leak not in body
    return problem


VIOLATIONS = [
    ("INSERT INTO item (id, email, size) VALUES (2, 'canary@x', 1)", "unique_violation", "uq_item_email", ["email"]),
    ("INSERT INTO item (id, slug, size) VALUES (2, 'canary', 1)", "unique_violation", "ix_item_slug", ["slug"]),
    (
        "INSERT INTO owner (id, first, last) VALUES (3, 'a', 'b')",
        "unique_violation",
        "uq_owner_first_last",
        ["first", "last"],
    ),
    ("INSERT INTO item (id, size) VALUES (1, 1)", "unique_violation", "pk_item", ["id"]),
    (
        "UPDATE owner SET first = 'a', last = 'b' WHERE id = 2",
        "unique_violation",
        "uq_owner_first_last",
        ["first", "last"],
    ),
    (
        "INSERT INTO item (id, owner_id, size) VALUES (3, 999999, 1)",
        "foreign_key_violation",
        "fk_item_owner_id_owner",
        ["owner_id"],
    ),
    ("DELETE FROM owner WHERE id = 1", "foreign_key_violation", "fk_item_owner_id_owner", ["id"]),
    ("INSERT INTO item (id, size) VALUES (4, NULL)", "not_null_violation", None, ["size"]),
    ("INSERT INTO item (id, size, price) VALUES (5, 1, -1)", "check_violation", "ck_item_price_positive", ["price"]),
]


NUMBERS = {
    "sqlite": [
        ("INTEGER PRIMARY KEY AUTOINCREMENT", "INSERT INTO numbered (id, size) VALUES (9223372036854775807, 1)"),
    ],
    "postgresql": [("smallserial PRIMARY KEY", "SELECT setval('numbered_id_seq', 32767)")],
    "mysql": [
        ("SMALLINT PRIMARY KEY AUTO_INCREMENT", "INSERT INTO numbered (id, size) VALUES (32767, 1)"),
        ("BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT", "ALTER TABLE numbered AUTO_INCREMENT = 18446744073709551615"),
    ],
}


@pytest.mark.parametrize(("statement", "code", "constraint", "fields"), VIOLATIONS, ids=range(len(VIOLATIONS)))
def test_a_broken_constraint_is_named_with_its_fields(
    bench: Bench, statement: str, code: str, constraint: str | None, fields: list[str]
) -> None:
    problem = check(bench.fail_statement(statement), code, 422 if code[:2] in ("no", "ch") else 409)
    if bench.family == "sqlite" and statement.startswith("DELETE"):
        constraint, fields = None, []  # SQLite does not tell which
    assert (problem.constraint, problem.fields) == (constraint, fields)


def test_the_class_does_not_depend_on_known_tables(bench: Bench) -> None:
    for statement, code, constraint, _fields in VIOLATIONS:
        problem = problem_for(bench.fail_statement(statement))
        assert problem is not None
        assert problem.code == code
        if bench.family == "postgresql":
            assert problem.constraint == constraint


def test_a_column_left_out_without_a_default_is_a_missing_value(bench: Bench) -> None:
    problem = check(bench.fail_statement("INSERT INTO item (id) VALUES (6)"), "not_null_violation", 422)
    assert problem.fields == ["size"]


def test_a_constraint_that_fails_at_commit_is_told_like_any_other(bench: Bench) -> None:
    error = bench.fail_statement("INSERT INTO item (id, size, late_id) VALUES (7, 1, 999999)")
    problem = check(error, "foreign_key_violation", 409)
    if bench.family != "sqlite":
        assert (problem.constraint, problem.fields) == ("fk_late", ["late_id"])


def fail_insert(bench: Bench, values: dict[str, Any]) -> BaseException:
    return bench.fail(lambda connection: connection.execute(item.insert().values({"id": 8, "size": 1, **values})))


@servers_only
@pytest.mark.parametrize("values", [{"email": "canary" * 9}, {"size": 999999}, {"price": 2**40}], ids=repr)
def test_a_value_that_its_column_cannot_hold_is_a_validation_error(bench: Bench, values: dict[str, Any]) -> None:
    problem = check(fail_insert(bench, values), "validation_error", 422)
    if bench.family == "mysql":
        assert problem.fields == list(values)


@pytest.mark.parametrize("values", [{"price": 2**70}, {"email": "canary\ud800"}], ids=["over 64 bits", "surrogate"])
def test_a_value_that_no_driver_can_send_is_a_validation_error(bench: Bench, values: dict[str, Any]) -> None:
    check(fail_insert(bench, values), "validation_error", 422)


@postgresql_only
def test_a_nul_byte_is_a_validation_error_on_postgresql(bench: Bench) -> None:
    check(fail_insert(bench, {"email": "canary\0"}), "validation_error", 422)


@mariadb_only
def test_a_value_never_passes_for_the_name_of_a_column(bench: Bench) -> None:
    for value in ("x' for column 'canary' at row 1", "x' for column 'canary", "CONSTRAINT `canary` failed for `item`"):
        for column in ("price", "day"):
            error = bench.fail(
                lambda connection, value=value, column=column: connection.execute(
                    sa.text(f"INSERT INTO item (id, size, {column}) VALUES (8, 1, :value)"), {"value": value}
                )
            )
            assert check(error, "validation_error", 422).fields == [column]
    statement = sa.text("INSERT INTO item (id, size, email) VALUES (8, 1, :value), (9, 1, :value)")
    error = bench.fail(lambda connection: connection.execute(statement, {"value": "' for key 'canary'"}))
    assert check(error, "unique_violation", 409).fields == ["email"]


def test_a_statement_that_takes_too_long_is_a_timeout(bench: Bench) -> None:
    def work(connection: sa.Connection) -> None:
        if bench.family == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 30")
            connection.exec_driver_sql("SELECT pg_sleep(30)")
        elif bench.family == "mysql":
            connection.exec_driver_sql("SET max_statement_time = 0.03")
            connection.exec_driver_sql("SELECT BENCHMARK(1000000000, MD5('x')) FROM owner")
        else:
            driver = connection.connection.driver_connection
            assert driver is not None
            pending = driver.set_progress_handler(lambda: 1, 1000)
            if bench.runner is not None:
                await_only(pending)
            connection.exec_driver_sql(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 9999999) SELECT sum(x) FROM n"
            )

    check(bench.fail(work), "timeout", 503)


def two_connections(bench: Bench, work: Callable[[sa.Connection, sa.Connection], Any]) -> BaseException:
    def with_both() -> None:
        with bench.engine.connect() as first, bench.engine.connect() as second:
            work(first, second)

    (error,) = bench.call(with_both)
    assert isinstance(error, Exception)
    return error


def test_a_lock_that_another_transaction_keeps_is_a_timeout(bench: Bench) -> None:
    def work(first: sa.Connection, second: sa.Connection) -> None:
        if bench.family == "sqlite":
            first.exec_driver_sql("BEGIN IMMEDIATE")
            second.exec_driver_sql("BEGIN IMMEDIATE")
            return
        first.exec_driver_sql("UPDATE owner SET last = 'z' WHERE id = 1")
        if bench.family == "postgresql":
            second.exec_driver_sql("SET LOCAL lock_timeout = 30")
            second.exec_driver_sql("UPDATE owner SET last = 'y' WHERE id = 1")
        else:
            second.exec_driver_sql("SELECT * FROM owner WHERE id = 1 FOR UPDATE NOWAIT")

    check(two_connections(bench, work), "timeout", 503)


def test_a_write_over_a_newer_snapshot_is_a_conflict(bench: Bench) -> None:
    def work(first: sa.Connection, second: sa.Connection) -> None:
        if bench.family == "sqlite":
            first.exec_driver_sql("BEGIN")
        elif bench.family == "postgresql":
            first = first.execution_options(isolation_level="SERIALIZABLE")
        else:
            first.exec_driver_sql("SET SESSION innodb_snapshot_isolation = ON")
            first.rollback()
        first.exec_driver_sql("SELECT * FROM owner").fetchall()
        second.exec_driver_sql("UPDATE owner SET last = 'y' WHERE id = 2")
        second.commit()
        first.exec_driver_sql("UPDATE owner SET last = 'x' WHERE id = 2")
        first.commit()

    check(two_connections(bench, work), "conflict", 409)


@servers_only
def test_a_deadlock_is_a_conflict(bench: Bench) -> None:
    connections: list[sa.Connection] = []

    def take(number: int) -> None:
        connection = bench.engine.connect()
        connections.append(connection)
        if bench.family == "postgresql":
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = 20")
        connection.exec_driver_sql(f"UPDATE owner SET last = 'q' WHERE id = {number}")

    def want(connection: sa.Connection, number: int) -> None:
        try:
            connection.exec_driver_sql(f"UPDATE owner SET last = 'r' WHERE id = {number}")
        finally:
            connection.rollback()

    assert bench.call(lambda: take(1)) == [None]
    assert bench.call(lambda: take(2)) == [None]
    errors = bench.call(lambda: want(connections[0], 2), lambda: want(connections[1], 1))
    bench.call(*(connection.close for connection in connections))
    victims = [error for error in errors if error is not None]
    assert len(victims) == 1
    check(victims[0], "conflict", 409)


@servers_only
def test_a_server_that_became_read_only_is_unavailable(bench: Bench) -> None:
    def work(connection: sa.Connection) -> None:
        connection.rollback()
        if bench.family == "mysql":
            connection.exec_driver_sql("START TRANSACTION READ ONLY")
        else:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.exec_driver_sql("UPDATE owner SET last = 'x'")

    check(bench.fail(work), "database_unavailable", 503)


def test_a_table_whose_numbers_are_used_up_is_full(bench: Bench) -> None:
    for key, use_up in NUMBERS[bench.family]:

        def work(connection: sa.Connection, key: str = key, use_up: str = use_up) -> None:
            connection.exec_driver_sql("DROP TABLE IF EXISTS numbered")
            connection.exec_driver_sql(f"CREATE TABLE numbered (id {key}, size INTEGER)")
            connection.exec_driver_sql(use_up)
            connection.exec_driver_sql("INSERT INTO numbered (size) VALUES (1)")

        assert "no number" in check(bench.fail(work), "database_unavailable", 503).detail


@servers_only
def test_a_connection_that_the_server_closed_is_unavailable(bench: Bench) -> None:
    def work(first: sa.Connection, second: sa.Connection) -> None:
        if bench.family == "postgresql":
            pid = first.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            second.execute(sa.select(sa.func.pg_terminate_backend(pid, 5000)))
        else:
            pid = first.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
            second.exec_driver_sql(f"KILL {pid}")
        first.exec_driver_sql("SELECT 1")

    check(two_connections(bench, work), "database_unavailable", 503)


def test_a_server_that_cannot_be_reached_is_unavailable(bench: Bench, tmp_path: Path) -> None:
    if bench.family == "sqlite":
        url = f"{SQLITE[bench.driver]}:///{tmp_path}/absent/test.db"
    else:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        url = sa.make_url(bench.url).set(port=port).render_as_string(hide_password=False)
    engine = bench.make_engine(url, poolclass=NullPool)
    (error,) = bench.call(engine.connect)
    check(error, "database_unavailable", 503)


@servers_only
def test_a_database_that_is_not_there_is_unavailable(bench: Bench) -> None:
    url = sa.make_url(bench.url).set(database="fsa_absent").render_as_string(hide_password=False)
    engine = bench.make_engine(url, poolclass=NullPool)
    (error,) = bench.call(engine.connect)
    check(error, "database_unavailable", 503)


@servers_only
def test_a_server_that_never_answers_is_a_timeout(bench: Bench) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = sa.make_url(bench.url).set(port=silent.getsockname()[1])
        bound: dict[str, Any] = {"connect_timeout": 2}  # libpq's least
        if bench.driver == "asyncpg":
            bound = {"timeout": 0.2}
        elif bench.family == "mysql":
            bound = {"connect_timeout": 1, "read_timeout": 0.2}
        engine = bench.make_engine(url.render_as_string(hide_password=False), poolclass=NullPool, connect_args=bound)
        (error,) = bench.call(engine.connect)
    check(error, "timeout", 503)


def test_a_pool_without_a_free_connection_is_a_timeout(bench: Bench) -> None:
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.02}
    if bench.runner is None:
        options["poolclass"] = QueuePool
    engine = bench.make_engine(**options)

    def exhaust() -> None:
        with engine.connect(), engine.connect():
            pass

    error, _ = *bench.call(exhaust), bench.call(engine.dispose)
    check(error, "timeout", 503)


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM absent", "SELEC 1", "SELECT absent FROM owner", "SELECT absent_function(1)"]
)
def test_a_programming_error_stays_an_error(bench: Bench, statement: str) -> None:
    assert problem_for(bench.fail_statement(statement), metadata) is None


def test_an_error_from_elsewhere_is_no_database_error(bench: Bench) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

    def call_another_service(_connection: sa.Connection) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            pass

    assert problem_for(bench.fail(call_another_service)) is None
    for error in (ValueError("x"), OverflowError("x"), TimeoutError("x"), RuntimeError("x"), sa.exc.NoResultFound()):
        assert problem_for(error) is None


def test_the_gate_refuses_with_a_retry_time() -> None:
    check(PoolTimeoutError(), "timeout", 503)
    problem = problem_for(PoolQueueFullError())
    assert problem is not None
    assert (problem.code, problem.status, problem.headers["Retry-After"]) == ("database_unavailable", 503, "1")
