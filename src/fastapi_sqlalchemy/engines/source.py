"""Builds the engines of one database from its configuration, once per process and per event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool

from ..admission import AsyncGatedQueuePool, GatedQueuePool, gated_pool_class
from ..config import DatabaseConfig, async_url_for, masked, missing_driver, sync_url_for
from ..exceptions import ConfigurationError, MissingDriverError
from ..turns import Turns
from . import mysql, pgbouncer, postgresql
from .cancellation import drop_after_cancel, forget_cancelled_resets
from .listeners import note_own_listeners
from .liveness import drop_after_failed_rollback, watch_idle_connections
from .primary import Primary, has_several_hosts
from .reads import begin_late
from .registry import register, register_source
from .replicas import Replicas
from .shared_engine import SharedConnection
from .sqlite import MemoryFile, configure_sqlite, is_memory_url

__all__ = ["EngineSource"]

logger = logging.getLogger("fastapi_sqlalchemy")

SQLITE_HOLDERS = 1
"""How many short SQLite transactions run at once; more contend for the interpreter's lock and all become slower."""

THREADED_HOLDERS = 2
"""The same for threads that talk to a server; one whose server takes its time keeps nobody back (see `Gate`)."""


_SPEAK_POSTGRESQL = frozenset({"postgresql", "cockroachdb"})
"""The dialects over PostgreSQL's drivers; YugabyteDB and Citus are reached as ``postgresql://``."""


class EngineSource:
    """The engines of one database.

    ``sync()`` is one engine for all threads; ``asynchronous()`` is one for the running event loop, since the
    connections of an async driver belong to the loop that opened them.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._sync: Engine | None = None
        self._async: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncEngine] = weakref.WeakKeyDictionary()
        self._loopless: AsyncEngine | None = None
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = weakref.WeakKeyDictionary()
        self._memory: MemoryFile | None = None
        self.isolation: SharedConnection | None = None
        self.replicas = Replicas(config, EngineSource)
        self.primary = Primary(config)
        register_source(self)

    def __repr__(self) -> str:
        url = self.config.url
        return f"<EngineSource {'(async only)' if url is None else masked(url)}>"

    @property
    def url(self) -> URL:
        """The URL as it was given, aliases resolved; its repr masks the password."""
        assert self.config.url is not None
        return self.config.url

    @property
    def dialect_name(self) -> str:
        """sqlite, postgresql, mysql, mariadb, ..."""
        return self.url.get_backend_name()

    def sync(self) -> Engine:
        """The engine for synchronous sessions; built on first use."""
        if self.isolation is not None:
            return self.isolation.engine
        engine = self._sync
        if engine is None:
            with self._lock:
                engine = self._sync
                if engine is None:
                    engine = self._sync = self._build_sync()
        return engine

    def asynchronous(self) -> AsyncEngine:
        """The engine for async sessions of the running event loop; outside of a loop, one without a pool."""
        if self.isolation is not None:
            return self.isolation.async_engine
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            with self._lock:
                if self._loopless is None:
                    self._loopless = self._build_async(pooled=False)
                return self._loopless
        engine = self._async.get(loop)
        if engine is None:
            with self._lock:
                engine = self._async.get(loop)
                if engine is None:
                    engine = self._async[loop] = self._build_async(pooled=True)
                    if self.config.async_custom_engine is None:
                        _dispose_with_loop(weakref.ref(self), loop)
        return engine

    def turns(self) -> Turns:
        """The turns of ``def`` endpoints that use this database from the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._turns.get(loop)
        if found is None:
            found = self._turns[loop] = Turns(SQLITE_HOLDERS if self.dialect_name == "sqlite" else THREADED_HOLDERS)
        return found

    def has_sync_driver(self) -> bool:
        """Whether a synchronous engine can be built here."""
        if self.config.custom_engine is not None or self._sync is not None:
            return True
        try:
            sync_url_for(self.url)
        except MissingDriverError:
            return False
        return True

    @contextmanager
    def begin(self) -> Generator[Connection, None, None]:
        """A connection in a transaction, for work without a session."""
        with self.sync().begin() as connection:
            yield connection

    def has_async_driver(self) -> bool:
        """Whether an async engine can be built here."""
        if self.config.async_custom_engine is not None:
            return True
        if self.config.custom_engine is not None and self.config.async_url is None:
            return False
        try:
            return _has_async_dialect(async_url_for(self.config.async_url or self.url))
        except MissingDriverError:
            return False

    def direct_engine(self, use_async: bool | None) -> Engine | None:
        """The engine whose driver may be asked directly for what nobody but its reader sees, or None.

        SQLite is read on the synchronous engine, PostgreSQL on the async one. An engine of the user's, an isolation,
        a pooler and replicas have rules of their own.
        """
        config = self.config
        if (
            self.isolation is not None
            or config.custom_engine is not None
            or config.async_custom_engine is not None
            or config.pooler is not None
            or config.replicas
        ):
            return None
        backend = self.dialect_name
        if backend == "sqlite":
            return None if use_async else self.sync()
        if backend != "postgresql" or use_async is False:
            return None
        engine = self._async.get(asyncio.get_running_loop())
        if engine is None:
            if not self.has_async_driver():
                return None
            engine = self.asynchronous()
        return engine.sync_engine

    def dispose(self) -> None:
        """Close the idle connections of the synchronous engine; the next use opens new ones."""
        with self._lock:
            if self._sync is not None:
                self._sync.dispose()
        for server in self.replicas.servers:
            server.source.dispose()

    async def adispose(self) -> None:
        """Close the idle connections of both engines of this event loop."""
        engine = self._async.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.dispose()
        for server in self.replicas.servers:
            await server.source.adispose()
        self.dispose()

    async def release(self) -> None:
        """At the end of an application: dispose the engines that were built here, not those made by the user."""
        if self.config.custom_engine is None and self.config.async_custom_engine is None:
            await self.adispose()

    def retire(self) -> None:
        """Close for good what was built here; an async engine ends with its event loop, which keeps this object."""
        for loop in [one for one in self._async if not one.is_closed()]:
            _kept.setdefault(loop, []).append(self)
        if self.config.custom_engine is None:
            self.dispose()

    def forget(self) -> object:
        """Drop every engine without closing anything (a forked child must not touch the parent's connections)."""
        inherited = (self._sync, dict(self._async), self._loopless)
        self._lock = threading.RLock()
        self._sync = None
        self._async = weakref.WeakKeyDictionary()
        self._loopless = None
        return inherited

    def _build_sync(self) -> Engine:
        config = self.config
        if config.custom_engine is not None:
            register(config.custom_engine)
            _put_gate_before(config.custom_engine)
            return config.custom_engine
        url = sync_url_for(self.url)
        options = self._options(url, config.engine_args, GatedQueuePool)
        try:
            engine = create_engine(url, **options)
        except (sa_exc.ArgumentError, TypeError) as error:
            raise ConfigurationError(f"The engine cannot be built: {error}") from None
        except ImportError as error:
            raise missing_driver(url, error) from None
        self._configure(engine)
        # The finalizer holds the connections, not the engine, whose cache of statements leads back to this object.
        weakref.finalize(self, _close_forgotten, _opened_by(engine), os.getpid()).atexit = False
        return engine

    def _build_async(self, *, pooled: bool) -> AsyncEngine:
        config = self.config
        if config.async_custom_engine is not None:
            register(config.async_custom_engine.sync_engine)
            _put_gate_before(config.async_custom_engine.sync_engine)
            return config.async_custom_engine
        if config.custom_engine is not None and config.async_url is None:
            raise ConfigurationError(
                "The database was made from a custom_engine, which is synchronous. Pass async_url= or "
                "async_custom_engine= as well to use async sessions."
            )
        url = async_url_for(config.async_url or self.url)
        given = config.engine_args if config.async_engine_args is None else config.async_engine_args
        options = self._options(url, given, AsyncGatedQueuePool)
        if not pooled:
            for name in ("pool_size", "max_overflow", "pool_timeout", "pool_use_lifo"):
                options.pop(name, None)
            options["poolclass"] = NullPool
        try:
            engine = create_async_engine(url, **options)
        except (sa_exc.ArgumentError, sa_exc.InvalidRequestError, TypeError) as error:
            raise ConfigurationError(f"The async engine cannot be built: {error}") from None
        except ImportError as error:
            raise missing_driver(url, error) from None
        self._configure(engine.sync_engine)
        return engine

    def _options(self, url: URL, given: Mapping[str, Any], pool_class: type[QueuePool]) -> dict[str, Any]:
        config = self.config
        options = dict(given)
        chosen = options.get("poolclass")
        if chosen in (QueuePool, AsyncAdaptedQueuePool):
            options["poolclass"] = pool_class
        elif chosen is not None:
            options["poolclass"] = gated_pool_class(chosen)
        elif "pool" not in options and "creator" not in options:
            options["poolclass"] = pool_class
        if issubclass(options.get("poolclass", NullPool), (QueuePool, AsyncAdaptedQueuePool)):
            options.setdefault("pool_timeout", config.pool_timeout)
        arguments: dict[str, Any] = {}
        backend = url.get_backend_name()
        if backend == "sqlite":
            arguments["check_same_thread"] = False
        elif backend in _SPEAK_POSTGRESQL:
            arguments = postgresql.connect_args(
                url,
                connect_timeout=config.connect_timeout,
                statement_timeout=config.statement_timeout,
                pooler=config.pooler,
            )
            if has_several_hosts(url) and not config.reads_only and "target_session_attrs" not in url.query:
                arguments["target_session_attrs"] = "read-write"
        elif backend in ("mysql", "mariadb"):
            arguments = mysql.connect_args(
                url, connect_timeout=config.connect_timeout, statement_timeout=config.statement_timeout
            )
        arguments.update(options.get("connect_args", {}))
        if arguments:
            options["connect_args"] = arguments
        return options

    def _configure(self, engine: Engine) -> None:
        config = self.config
        backend = engine.dialect.name
        self.primary.guard(engine)
        if backend == "sqlite":
            if is_memory_url(self.url) and self._memory is None:
                self._memory = MemoryFile()
            configure_sqlite(engine, config.sqlite, config.statement_timeout, self._memory)
        elif backend in _SPEAK_POSTGRESQL:
            postgresql.hold_deadlines(engine, config.statement_timeout, config.connect_timeout)
            if config.pooler is None or not pgbouncer.needs_transactions(engine, config.statement_timeout):
                begin_late(engine)
            else:
                pgbouncer.limit_transactions(engine, config.statement_timeout)
            watch_idle_connections(engine)
        elif backend in ("mysql", "mariadb"):
            mysql.limit_connects(engine, config.connect_timeout)
            mysql.limit_statements(engine, config.statement_timeout)
            watch_idle_connections(engine)
        if isinstance(engine.pool, GatedQueuePool):
            engine.pool.open_gate(preferred=SQLITE_HOLDERS if backend == "sqlite" else THREADED_HOLDERS)
        elif isinstance(engine.pool, AsyncGatedQueuePool) and backend == "sqlite":
            engine.pool.open_gate(preferred=SQLITE_HOLDERS)
        drop_after_failed_rollback(engine)
        drop_after_cancel(engine)
        forget_cancelled_resets(engine)
        note_own_listeners(engine)
        register(engine)


def _opened_by(engine: Engine) -> dict[int, Any]:
    """The connections that the pool of an engine has open, kept up to date."""
    opened: dict[int, Any] = {}

    def add(connection: Any, _record: Any) -> None:
        opened[id(connection)] = connection

    def drop(connection: Any, _record: Any) -> None:
        opened.pop(id(connection), None)

    event.listen(engine, "connect", add)
    event.listen(engine, "close", drop)
    event.listen(engine, "detach", drop)
    return opened


def _close_forgotten(opened: dict[int, Any], owner: int) -> None:
    """Close what the pool of a database that is gone has left; a forked child leaves its parent's connections alone."""
    if os.getpid() != owner:
        return
    for connection in list(opened.values()):
        try:
            connection.close()
        except Exception:
            logger.warning("A connection of a database that is gone could not be closed.", exc_info=True)


def _has_async_dialect(url: URL) -> bool:
    try:
        dialect = url.get_dialect(_is_async=True)
    except (sa_exc.NoSuchModuleError, sa_exc.InvalidRequestError):
        return False
    return bool(getattr(dialect, "is_async", False))


def _put_gate_before(engine: Engine) -> None:
    """Give an engine that somebody else built a gated pool; like ``dispose()``, it starts with no connection."""
    pool = engine.pool
    gated = gated_pool_class(type(pool))
    if gated is type(pool) or not isinstance(pool, QueuePool):
        return
    fresh: Any = pool.recreate()
    fresh.__class__ = gated
    assert isinstance(fresh, (GatedQueuePool, AsyncGatedQueuePool))
    fresh.open_gate()
    engine.pool = fresh
    pool.dispose()


def _dispose_with_loop(reference: weakref.ref[EngineSource], loop: asyncio.AbstractEventLoop) -> None:
    """Dispose the loop's engine when the loop shuts down.

    A runner closes the async generators of its loop before it closes the loop itself
    (https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.shutdown_asyncgens), so a started generator
    is a hook for the end of the loop.
    """

    async def hold() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            source, ending = reference(), asyncio.get_running_loop()
            _held.pop(ending, None)
            engine = None if source is None else source._async.pop(ending, None)  # pyright: ignore[reportPrivateUsage]
            if engine is not None:
                await engine.dispose()
            if source is not None and source in _kept.get(ending, ()):
                _kept[ending].remove(source)

    generator = hold()
    with contextlib.suppress(StopIteration):
        generator.__anext__().send(None)
    _held[loop] = [*_held.get(loop, ()), generator]


_held: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Any]] = weakref.WeakKeyDictionary()

_kept: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[EngineSource]] = weakref.WeakKeyDictionary()
"""Retired sources whose async engine lives as long as the loop does."""
