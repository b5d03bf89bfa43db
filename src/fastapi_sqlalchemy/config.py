"""Settings of one database: the URL for each of the two worlds, the engines' options, the deadlines."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict, cast

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Engine
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from .exceptions import ConfigurationError, MissingDatabaseError, MissingDriverError

__all__ = [
    "BeginMode",
    "DatabaseConfig",
    "DatabaseOptions",
    "EngineOptions",
    "Replica",
    "ReplicaOption",
    "SQLiteSettings",
    "async_url_for",
    "masked",
    "missing_driver",
    "parse_url",
    "sync_url_for",
]

BeginMode = Literal["immediate", "deferred"]


@dataclass(frozen=True)
class Replica:
    """A server to read from, for ``SQLAlchemy(url, replicas=[...])``.

    ``url`` names it; a driver that it does not name is that of the primary. ``weight`` is its share of the reads
    beside the other replicas. A replica that is more than ``max_lag`` seconds or ``max_lag_bytes`` bytes of write-ahead
    log behind is left out until it has caught up; None means no limit. Bytes are known of PostgreSQL only.
    """

    url: str | URL = field(repr=False)
    weight: float = 1
    max_lag: float | None = 10
    max_lag_bytes: int | None = None

    @property
    def parsed(self) -> URL:
        """The URL with its aliases resolved."""
        return parse_url(self.url)


ReplicaOption: TypeAlias = str | URL | tuple[str | URL, float] | Replica
"""How a replica is given: its URL, its URL and weight, or a `Replica`."""


class SQLiteSettings(TypedDict, total=False):
    """What every SQLite connection is set to; None leaves SQLite's own default.

    ``foreign_keys``: enforce them. ``journal_mode``: "wal" and the like, for files. ``busy_timeout``: seconds to wait
    for another writer. ``begin``: "immediate" takes the write lock when a writing transaction begins, "deferred" when
    it first writes.
    """

    foreign_keys: bool | None
    journal_mode: str | None
    busy_timeout: float | None
    begin: BeginMode | None


class EngineOptions(TypedDict, total=False):
    """Options that `SQLAlchemy` and `DBSessionMiddleware` hand on; `SQLAlchemy` says what each is."""

    async_url: str | URL | None
    async_custom_engine: AsyncEngine | None
    async_engine_args: Mapping[str, Any] | None
    async_session_args: Mapping[str, Any] | None
    expire_on_commit: bool
    replicas: Sequence[ReplicaOption]
    pooler: str | None
    position_key: str | None
    connect_timeout: float | None
    pool_timeout: float | None
    statement_timeout: float | None
    request_timeout: float | None
    sqlite: Mapping[str, Any] | None
    verbose: int
    async_: bool | None


class DatabaseOptions(EngineOptions, total=False):
    """Options that `SQLAlchemy` takes besides the URL, before and after ``init()``."""

    custom_engine: Engine | None
    engine_args: Mapping[str, Any] | None
    session_args: Mapping[str, Any] | None
    commit_on_exit: bool
    migrations: Literal["check", "upgrade"] | None


SQLITE_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"foreign_keys": True, "journal_mode": "wal", "busy_timeout": 5.0, "begin": "immediate"}
)


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore")

    database_url: SecretStr | None = None
    database_position_key: SecretStr | None = None


@dataclass(frozen=True)
class _Backend:
    """The drivers of one database, best first, as (SQLAlchemy name, module to import)."""

    sync: tuple[tuple[str, str], ...]
    asynchronous: tuple[tuple[str, str], ...]
    extra: str | None


_PSYCOPG = ("psycopg", "psycopg")
_MYSQL = _Backend(
    sync=(("pymysql", "pymysql"), ("mysqldb", "MySQLdb"), ("mysqlconnector", "mysql.connector")),
    asynchronous=(("asyncmy", "asyncmy"), ("aiomysql", "aiomysql")),
    extra="mysql",
)
_BACKENDS: Mapping[str, _Backend] = MappingProxyType(
    {
        "sqlite": _Backend((("pysqlite", "sqlite3"),), (("aiosqlite", "aiosqlite"),), None),
        "postgresql": _Backend(
            (_PSYCOPG, ("psycopg2", "psycopg2"), ("pg8000", "pg8000")), (_PSYCOPG, ("asyncpg", "asyncpg")), "postgres"
        ),
        "cockroachdb": _Backend((_PSYCOPG, ("psycopg2", "psycopg2")), (("asyncpg", "asyncpg"), _PSYCOPG), "postgres"),
        "mysql": _MYSQL,
        "mariadb": _MYSQL,
        "oracle": _Backend((("oracledb", "oracledb"),), (("oracledb", "oracledb"),), "oracle"),
        "mssql": _Backend(
            (("mssqlpython", "mssql_python"), ("pyodbc", "pyodbc"), ("pymssql", "pymssql")),
            (("aioodbc", "aioodbc"),),
            "mssql",
        ),
    }
)
_ALIASES: Mapping[str, str] = MappingProxyType({"postgres": "postgresql"})
_IN_EXTRAS = frozenset({"psycopg", "asyncpg", "pymysql", "asyncmy", "oracledb", "pyodbc", "aioodbc"})
_SECRET_WORDS = ("pass", "pwd", "secret", "token", "odbc_connect")


def parse_url(url: str | URL) -> URL:
    """The URL with its aliases resolved (``postgres://`` is ``postgresql://``).

    Raises `ConfigurationError` when it is no database URL; the text of the URL is not repeated, it may hold a password.
    """
    if isinstance(url, str) and url.strip() == "":
        raise MissingDatabaseError
    try:
        parsed = make_url(url)
    except (sa_exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read. It has the form "
            "dialect://user:password@host:port/database, for example sqlite:///app.db or "
            "postgresql://user:password@localhost/app."
        ) from None
    backend, _, driver = parsed.drivername.partition("+")
    backend = _ALIASES.get(backend, backend)
    parsed = parsed.set(drivername=f"{backend}+{driver.removesuffix('_async')}" if driver else backend)
    for name in ("password", "passwd"):
        given = parsed.query.get(name)
        if isinstance(given, str):  # SQLAlchemy masks the password of the authority, not one in the query
            parsed = parsed.difference_update_query([name])
            parsed = parsed.set(password=given) if parsed.password is None else parsed
    return parsed


def masked(url: URL) -> str:
    """The URL as text without its secrets, those in the query included."""
    secret = {name: "***" for name in url.query if any(word in name.lower() for word in _SECRET_WORDS)}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def sync_url_for(url: URL) -> URL:
    """The URL with a synchronous driver that is installed; raises `MissingDriverError` when there is none."""
    return _with_driver(url, asynchronous=False)


def async_url_for(url: URL) -> URL:
    """The URL with an asynchronous driver that is installed; raises `MissingDriverError` when there is none."""
    return _with_driver(url, asynchronous=True)


def _with_driver(url: URL, *, asynchronous: bool) -> URL:
    name, _, asked = url.drivername.partition("+")
    backend = _BACKENDS.get(name)
    if backend is None:
        return url
    wanted = backend.asynchronous if asynchronous else backend.sync
    other = backend.sync if asynchronous else backend.asynchronous
    if asked:
        match = [entry for entry in wanted if entry[0] == asked]
        if match:
            wanted = tuple(match)
        elif all(entry[0] != asked for entry in other):
            return url
    for driver, module in wanted:
        if _is_installed(module):
            return url.set(drivername=f"{name}+{driver}")
    raise MissingDriverError(_missing_driver(name, backend, wanted, asked, asynchronous=asynchronous))


def missing_driver(url: URL, reason: object) -> MissingDriverError:
    """The error for a driver that is installed but cannot be imported."""
    backend = _BACKENDS.get(url.get_backend_name())
    hint = "" if backend is None or backend.extra is None else f" {_install(backend.extra)}"
    return MissingDriverError(f"The driver of {url.drivername} cannot be imported: {reason}.{hint}")


def _missing_driver(
    name: str, backend: _Backend, wanted: Sequence[tuple[str, str]], asked: str, *, asynchronous: bool
) -> str:
    kind = "asynchronous" if asynchronous else "synchronous"
    modules = ", ".join(module for _, module in wanted)
    extra = "asyncpg" if wanted[0][0] == "asyncpg" else backend.extra
    message = f"No {kind} driver for {name} is installed (looked for: {modules})."
    if asked and len(wanted) == 1 and wanted[0][0] not in _IN_EXTRAS:
        package = wanted[0][1].partition(".")[0]
        return f"{message} Install it with: pip install {package}, or write {name}:// in the URL."
    return f"{message} {_install(extra)}" if extra else message


def _install(extra: str) -> str:
    return f'Install one with: pip install "fastapi-sqlalchemy[{extra}]"'


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


@dataclass(frozen=True, kw_only=True)
class DatabaseConfig:
    """All that is needed to build the engines of one database.

    Times are in seconds, and None means no bound. ``pooler`` is None or "pgbouncer". ``position_key`` signs the tokens
    by which clients read their own writes from ``replicas``. ``reads_only`` marks the configuration of a replica.
    """

    url: URL | None = None
    async_url: URL | None = None
    custom_engine: Engine | None = None
    async_custom_engine: AsyncEngine | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    async_engine_args: Mapping[str, Any] | None = None
    connect_timeout: float | None = 5
    pool_timeout: float | None = 5
    statement_timeout: float | None = 30
    request_timeout: float | None = None
    sqlite: Mapping[str, Any] = field(default_factory=lambda: SQLITE_DEFAULTS)
    replicas: tuple[Replica, ...] = ()
    pooler: str | None = None
    position_key: str | None = field(default=None, repr=False)
    reads_only: bool = False

    @classmethod
    def create(
        cls,
        url: str | URL | None,
        *,
        async_url: str | URL | None = None,
        custom_engine: Engine | None = None,
        async_custom_engine: AsyncEngine | None = None,
        engine_args: Mapping[str, Any] | None = None,
        async_engine_args: Mapping[str, Any] | None = None,
        connect_timeout: float | None = 5,
        pool_timeout: float | None = 5,
        statement_timeout: float | None = 30,
        request_timeout: float | None = None,
        sqlite: Mapping[str, Any] | None = None,
        replicas: Sequence[ReplicaOption] = (),
        pooler: str | None = None,
        position_key: str | None = None,
    ) -> DatabaseConfig:
        """Check the options and build the configuration.

        Raises `MissingDatabaseError` when nothing says which database, `ConfigurationError` for a wrong value.
        """
        if isinstance(cast(object, custom_engine), AsyncEngine):
            raise ConfigurationError("custom_engine takes a synchronous Engine; pass this one as async_custom_engine.")
        if not isinstance(cast(object, custom_engine), Engine | None):
            raise ConfigurationError("custom_engine takes an Engine (create_engine).")
        if not isinstance(cast(object, async_custom_engine), AsyncEngine | None):
            raise ConfigurationError("async_custom_engine takes an AsyncEngine (create_async_engine).")
        parsed = None if url is None else parse_url(url)
        parsed_async = None if async_url is None else parse_url(async_url)
        if parsed is None:
            if custom_engine is not None:
                parsed = custom_engine.url
            elif parsed_async is not None:
                parsed = parsed_async
            elif async_custom_engine is not None:
                parsed = async_custom_engine.url
            else:
                raise MissingDatabaseError
        for name, value in (
            ("connect_timeout", connect_timeout),
            ("pool_timeout", pool_timeout),
            ("statement_timeout", statement_timeout),
            ("request_timeout", request_timeout),
        ):
            if value is not None and not (_is_number(value) and value > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, or None for no bound; not {value!r}.")
        if pooler not in (None, "pgbouncer"):
            raise ConfigurationError(f'pooler is None or "pgbouncer", not {pooler!r}.')
        return cls(
            url=parsed,
            async_url=parsed_async,
            custom_engine=custom_engine,
            async_custom_engine=async_custom_engine,
            engine_args=dict(engine_args or {}),
            async_engine_args=None if async_engine_args is None else dict(async_engine_args),
            connect_timeout=connect_timeout,
            pool_timeout=pool_timeout,
            statement_timeout=statement_timeout,
            request_timeout=request_timeout,
            sqlite=_sqlite_settings(sqlite),
            replicas=_replicas(replicas, parsed, engine_args or {}),
            pooler=pooler,
            position_key=position_key,
        )

    @staticmethod
    def url_from_environment() -> str | None:
        """The value of ``DATABASE_URL``, or None."""
        return _reveal(_Environment().database_url)

    @staticmethod
    def position_key_from_environment() -> str | None:
        """The value of ``DATABASE_POSITION_KEY``, or None."""
        return _reveal(_Environment().database_position_key)


def _reveal(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _replicas(given: Sequence[ReplicaOption], primary: URL, engine_args: Mapping[str, Any]) -> tuple[Replica, ...]:
    if isinstance(given, (str, URL)):
        raise ConfigurationError("replicas is a list of URLs: replicas=[url].")
    if given and {"creator", "async_creator", "pool"} & set(engine_args):
        raise ConfigurationError("With replicas, connections are opened by URL: engine_args takes no creator or pool.")
    found: list[Replica] = []
    for one in given:
        if isinstance(one, Replica):
            replica = one
        elif isinstance(one, (str, URL)):  # a URL is a tuple too
            replica = Replica(one)
        else:
            replica = Replica(*one)
        url = replica.parsed
        if url.get_backend_name() != primary.get_backend_name():
            raise ConfigurationError(
                f"A replica of {primary.get_backend_name()} cannot be {url.get_backend_name()}: replicas are copies of "
                "the database of the first URL."
            )
        if not (_is_number(replica.weight) and replica.weight > 0):
            raise ConfigurationError(f"The weight of a replica is a number above 0, not {replica.weight!r}.")
        found.append(replace(replica, url=url))
    return tuple(found)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _sqlite_settings(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    unknown = sorted(set(given or ()) - set(SQLITE_DEFAULTS))
    if unknown:
        raise ConfigurationError(
            f"sqlite= has no setting {', '.join(unknown)}. It takes: {', '.join(sorted(SQLITE_DEFAULTS))}."
        )
    settings = {**SQLITE_DEFAULTS, **(given or {})}
    if settings["begin"] not in ("immediate", "deferred", None):
        raise ConfigurationError(f'sqlite["begin"] is "immediate", "deferred" or None, not {settings["begin"]!r}.')
    return MappingProxyType(settings)
