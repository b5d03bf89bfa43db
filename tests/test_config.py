"""URLs, options and environment: what is taken, what is refused, what is never shown."""

from __future__ import annotations

import asyncio
import importlib.abc
import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, ModelBase, SQLAlchemy
from fastapi_sqlalchemy.config import async_url_for, parse_url, sync_url_for
from fastapi_sqlalchemy.exceptions import (
    ConfigurationError,
    MissingDatabaseError,
    MissingDriverError,
    SessionNotInitialisedError,
    UnknownOptionError,
)
from tests.support.client import TestClient

NOTHING_GIVEN = "You need to pass a db_url or a custom_engine parameter."
SECRET = "hunter2"


# Which database.


@pytest.fixture(autouse=True)
def no_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_nothing_is_needed_before_init() -> None:
    db = SQLAlchemy()
    assert not db.initiated
    assert repr(db) == "<SQLAlchemy (not initialised)>"
    db.init("sqlite://")
    assert db.initiated
    assert db.url.get_backend_name() == "sqlite"


@pytest.mark.parametrize("given", [{}, {"url": None}, {"url": ""}, {"url": "  "}, {"commit_on_exit": True}])
def test_init_without_a_database_is_a_value_error(given: dict[str, Any]) -> None:
    db = SQLAlchemy()
    with pytest.raises(ValueError, match="db_url or a custom_engine") as caught:
        db.init(**given)
    assert isinstance(caught.value, MissingDatabaseError)
    assert str(caught.value) == NOTHING_GIVEN
    assert not db.initiated


def test_init_falls_back_to_the_environment(monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    db = SQLAlchemy()
    with pytest.raises(SessionNotInitialisedError):
        _ = db.session
    db.init()
    assert str(db.url) == sqlite_url


def test_init_replaces_the_url_and_keeps_the_other_options(tmp_path: Any) -> None:
    db = SQLAlchemy(f"sqlite:///{tmp_path}/one.db", commit_on_exit=True)
    first = db.engine
    db.init(f"sqlite:///{tmp_path}/two.db", expire_on_commit=True)
    assert db.engine is not first
    assert str(db.url).endswith("two.db")
    assert db.commit_on_exit
    with db():
        assert db.session.expire_on_commit


def test_an_unknown_option_is_a_type_error_that_names_it(sqlite_url: str) -> None:
    with pytest.raises(TypeError, match="pool_sise"):
        SQLAlchemy(sqlite_url, pool_sise=5)  # type: ignore[call-arg]
    db = SQLAlchemy()
    with pytest.raises(TypeError, match="pool_sise") as caught:
        db.init(sqlite_url, pool_sise=5)  # type: ignore[call-arg]
    assert isinstance(caught.value, UnknownOptionError)
    assert str(caught.value) == "__init__() got an unexpected keyword argument 'pool_sise'"  # as Python itself says it


def test_every_option_is_taken_by_the_constructor_and_by_init(sqlite_url: str) -> None:
    class Base(ModelBase, DeclarativeBase):
        pass

    options: dict[str, Any] = {
        "async_url": sqlite_url,
        "custom_engine": None,
        "async_custom_engine": None,
        "engine_args": {"echo": False},
        "async_engine_args": {"echo": False},
        "session_args": {"autoflush": False},
        "async_session_args": {"autoflush": True},
        "commit_on_exit": True,
        "expire_on_commit": True,
        "replicas": (),
        "pooler": None,
        "connect_timeout": 1.5,
        "pool_timeout": None,
        "statement_timeout": None,
        "sqlite": {"foreign_keys": None},
        "verbose": 3,
        "async_": True,
    }
    given = SQLAlchemy(sqlite_url, **options, model_class=Base)
    assert given.Base is given.BaseModel is Base
    later = SQLAlchemy()
    later.init(sqlite_url, **options)

    async def look(db: SQLAlchemy) -> None:
        async with db():
            assert (db.session.autoflush, db.async_session.sync_session.autoflush) == (False, True)

    for db in (given, later):
        assert db.commit_on_exit
        asyncio.run(look(db))


def test_init_takes_what_shapes_the_base_before_the_first_model(sqlite_url: str) -> None:
    metadata = sa.MetaData()

    class Mine(ModelBase):
        pass

    db = SQLAlchemy()
    db.init(sqlite_url, metadata=metadata, model_class=Mine)
    assert db.metadata is metadata

    class Item(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert issubclass(Item, Mine)
    db.create_all()
    with db():
        assert Item.new().id == 1
    with pytest.raises(ConfigurationError, match="before the first model"):
        db.init(sqlite_url, metadata=sa.MetaData())


def test_metadata_and_model_class_shape_the_base() -> None:
    metadata = sa.MetaData(schema="s")
    assert SQLAlchemy("sqlite://", metadata=metadata).metadata is metadata

    class Mine(ModelBase):
        def shout(self) -> str:
            return "!"

    db = SQLAlchemy("sqlite://", model_class=Mine)
    assert issubclass(db.Base, Mine)

    class Base(ModelBase, DeclarativeBase):
        pass

    with pytest.raises(ConfigurationError, match="leave metadata= out"):
        SQLAlchemy("sqlite://", model_class=Base, metadata=metadata)


@pytest.mark.parametrize("name", ["connect_timeout", "pool_timeout", "statement_timeout"])
@pytest.mark.parametrize("value", [0, -1, "5", True, float("nan")])
def test_a_time_that_cannot_be_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        SQLAlchemy("sqlite://", **{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooler": "pgpool"}, "pgbouncer"),
        ({"sqlite": {"foreign_key": True}}, "foreign_key"),
        ({"sqlite": {"begin": "exclusive"}}, "exclusive"),
        ({"custom_engine": "sqlite://"}, "create_engine"),
        ({"async_custom_engine": sa.create_engine("sqlite://")}, "AsyncEngine"),
        ({"custom_engine": create_async_engine("sqlite+aiosqlite://")}, "async_custom_engine"),
    ],
)
def test_a_value_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SQLAlchemy("sqlite://", **options)


def test_an_engine_option_that_does_not_exist_is_a_clear_error(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url, engine_args={"pool_sise": 5})
    with pytest.raises(ConfigurationError, match="pool_sise"):
        _ = db.engine


# URLs and drivers.


@pytest.mark.parametrize("url", ["nonsense", "postgresql//host/db", "postgresql://host:port/db", 5])
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="dialect://user:password@host") as caught:
        SQLAlchemy(url)
    assert caught.value.__cause__ is None
    assert str(url) not in str(caught.value)


def test_a_dialect_that_does_not_exist_is_a_clear_error() -> None:
    db = SQLAlchemy("nosuch://localhost/db")
    with pytest.raises(ConfigurationError, match="nosuch"):
        _ = db.engine


@pytest.mark.parametrize(
    ("url", "sync", "asynchronous"),
    [
        ("sqlite://", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("sqlite+pysqlite:///a.db", "sqlite+pysqlite", "sqlite+aiosqlite"),
        ("postgres://u@h/d", "postgresql+psycopg", "postgresql+psycopg"),
        ("postgresql://u@h/d", "postgresql+psycopg", "postgresql+psycopg"),
        ("postgresql+psycopg_async://u@h/d", "postgresql+psycopg", "postgresql+psycopg"),
        ("postgres+asyncpg://u@h/d", "postgresql+psycopg", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg", "postgresql+asyncpg"),
        ("mysql://u@h/d", "mysql+pymysql", "mysql+asyncmy"),
        ("mariadb://u@h/d", "mariadb+pymysql", "mariadb+asyncmy"),
        ("mariadb+asyncmy://u@h/d", "mariadb+pymysql", "mariadb+asyncmy"),
        ("cockroachdb+psycopg://u@h/d", "cockroachdb+psycopg", "cockroachdb+psycopg"),
    ],
)
def test_one_url_gives_the_best_installed_driver_of_both_kinds(url: str, sync: str, asynchronous: str) -> None:
    parsed = parse_url(url)
    assert sync_url_for(parsed).drivername == sync
    assert async_url_for(parsed).drivername == asynchronous


class Blocked(importlib.abc.MetaPathFinder):
    """Makes the import of some modules fail, as if they were not installed."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] in self.names:
            raise ImportError(f"{fullname} is blocked")


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Blocks modules by name; undone before a fixture that was asked for earlier drops its database."""

    def block_modules(*names: str) -> None:
        for loaded in list(sys.modules):
            if loaded.partition(".")[0] in names:
                monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setattr(sys, "meta_path", [Blocked(names), *sys.meta_path])

    yield block_modules
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("url", "modules", "extra"),
    [
        ("postgresql://u@h/d", ("psycopg", "psycopg2", "pg8000"), "postgres"),
        ("mysql://u@h/d", ("pymysql", "MySQLdb", "mysql"), "mysql"),
        ("mariadb://u@h/d", ("pymysql", "MySQLdb", "mysql"), "mysql"),
        ("oracle://u@h/d", ("oracledb",), "oracle"),
        ("mssql://u@h/d", ("mssql_python", "pyodbc", "pymssql"), "mssql"),
    ],
)
def test_a_missing_driver_names_the_extra_to_install(
    url: str, modules: tuple[str, ...], extra: str, block: Callable[..., None]
) -> None:
    block(*modules)
    db = SQLAlchemy(url)
    with pytest.raises(MissingDriverError, match=rf'pip install "fastapi-sqlalchemy\[{extra}\]"') as caught:
        _ = db.engine
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    ("url", "modules", "extra"),
    [
        ("postgresql+asyncpg://u@h/d", ("asyncpg",), "asyncpg"),
        ("mysql://u@h/d", ("asyncmy", "aiomysql"), "mysql"),
        ("oracle://u@h/d", ("oracledb",), "oracle"),
        ("mssql://u@h/d", ("aioodbc",), "mssql"),
    ],
)
def test_a_missing_async_driver_names_the_extra_to_install(
    url: str, modules: tuple[str, ...], extra: str, block: Callable[..., None]
) -> None:
    block(*modules)
    db = SQLAlchemy(url)
    with pytest.raises(MissingDriverError, match=rf'pip install "fastapi-sqlalchemy\[{extra}\]"'):
        _ = db.async_engine


def test_a_driver_that_was_asked_for_by_name_and_is_missing_is_named() -> None:
    db = SQLAlchemy("postgresql+psycopg2://u@h/d")
    with pytest.raises(MissingDriverError, match="pip install psycopg2, or write postgresql://"):
        _ = db.engine


def test_the_next_driver_is_taken_when_the_best_is_missing(block: Callable[..., None]) -> None:
    block("psycopg")
    assert async_url_for(parse_url("postgresql://u@h/d")).drivername == "postgresql+asyncpg"


def test_an_installation_with_an_async_driver_only_starts(postgres_url: str, block: Callable[..., None]) -> None:
    block("psycopg", "psycopg2", "pg8000")
    db = SQLAlchemy(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    app = FastAPI(lifespan=db.lifespan)

    @app.get("/")
    async def endpoint() -> int:
        return len(await Item.aget_all())

    with TestClient(app) as client:
        assert client.get("/").json() == 0


@pytest.mark.parametrize("dialect", ["oracle", "mssql"])
def test_databases_that_cannot_be_run_here_compile(dialect: str) -> None:
    db = SQLAlchemy(f"{dialect}://user@host/name")

    class UserAccount(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)

    from sqlalchemy.schema import CreateTable

    compiled = str(CreateTable(UserAccount.__table__).compile(dialect=db.url.get_dialect()()))
    assert "CREATE TABLE user_account" in compiled
    assert "uq_user_account_name" in compiled


def test_importing_the_package_imports_no_driver_and_connects_to_nothing() -> None:
    program = (
        "import sys; import fastapi_sqlalchemy; "
        "print([name for name in ('psycopg', 'asyncpg', 'pymysql', 'asyncmy') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Secrets.


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:hunter2@127.0.0.1:1/x",
        "postgresql+asyncpg://postgres:hunter2@127.0.0.1:1/x",
        "postgresql://postgres@127.0.0.1:1/x?password=hunter2",
        "mysql://root:hunter2@127.0.0.1:1/x",
        "mariadb://root@127.0.0.1:1/x?passwd=hunter2",
        "the server of MariaDB",
    ],
)
def test_the_password_is_in_no_repr_no_error_no_log_and_no_answer(
    url: str, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    if url == "the server of MariaDB":
        url = sa.make_url(request.getfixturevalue("mariadb_url")).set(password=SECRET).render_as_string(False)
    caplog.set_level(logging.DEBUG)
    db = SQLAlchemy(url, connect_timeout=2)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    shown = [repr(db), str(db), repr(db.url), str(db.url), f"{db.url}", repr(db.source), repr(db.source.config)]
    shown += [repr(db.engine), str(db.engine), repr(db.engine.url), repr(db.engine.pool)]

    def note(work: Callable[[], Any]) -> None:
        try:
            shown.append(repr(work()))
        except Exception as error:
            shown.append("".join(traceback.format_exception(error)))
            shown.append(repr(error))

    def connect() -> None:
        with db():
            Item.get_all()

    async def connect_async() -> None:
        shown.append(repr(db.async_engine))
        async with db():
            await Item.aget_all()

    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db, create_tables=False)
    app.add_api_route("/", lambda: len(Item.get_all()))
    starting = FastAPI()
    starting.add_middleware(DBSessionMiddleware, db=db)

    note(connect)
    note(lambda: asyncio.run(connect_async()))
    note(lambda: TestClient(app).get("/").text)
    note(lambda: TestClient(starting).__enter__())
    assert len(shown) >= 15
    leaks = [text for text in (*shown, caplog.text) if SECRET in text]
    assert not leaks
    assert db.url.password == SECRET
