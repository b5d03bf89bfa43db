"""`SQLAlchemy`: one object for the engines, the models and the sessions of a database."""

from __future__ import annotations

import functools
import gc
import inspect
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast

import anyio
from fastapi import FastAPI
from sqlalchemy import Engine, MetaData
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from .bindings import Binding
from .config import DatabaseConfig, DatabaseOptions, ReplicaOption, masked, parse_url
from .engines import EngineSource, Replicas
from .exceptions import (
    AmbiguousDatabaseError,
    AsyncScopeRequiredError,
    ConfigurationError,
    MissingSessionError,
    NotConfirmedError,
    SessionNotInitialisedError,
)
from .isolation import Isolation
from .models.active import adopt
from .models.base import ModelBase, declarative_base_for
from .override import Override
from .running import look_inside, run_alone, run_inside
from .scope import IN_USE, Scope, current_scope, unused_binding
from .sessions import AsyncSession, Callback, Session
from .tables import create_tables, drop_tables
from .transactions import Transaction, Unit, is_conflict, pause

__all__ = ["SQLAlchemy", "db"]

_databases: weakref.WeakSet[SQLAlchemy] = weakref.WeakSet()

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Doors(Protocol):
    """What the web layer adds to a database; it installs itself as ``SQLAlchemy.doors``."""

    def session_dependency(
        self, database: SQLAlchemy, *, read_only: bool = False
    ) -> Callable[..., Coroutine[Any, Any, Session]]: ...

    def async_session_dependency(
        self, database: SQLAlchemy, *, read_only: bool = False
    ) -> Callable[..., Coroutine[Any, Any, AsyncSession]]: ...

    def lifespan(self, database: SQLAlchemy, app: FastAPI) -> AbstractAsyncContextManager[None]: ...


class SQLAlchemy:
    """A database behind a FastAPI application: its engines, its declarative base and its sessions.

    ``db = SQLAlchemy("sqlite:///app.db")``, then ``class User(db.Base)``, and one of
    ``app.add_middleware(DBSessionMiddleware, db=db)``, ``FastAPI(lifespan=db.lifespan)`` or
    ``session: Session = Depends(db.get_session)``. Outside of a request: ``with db():`` or ``async with db():``.

    Parameters: ``url`` serves the synchronous and the asynchronous engine; ``async_url`` only where the two differ.
    ``custom_engine`` and ``async_custom_engine`` are engines made elsewhere. ``engine_args`` and ``session_args`` go to
    SQLAlchemy. ``commit_on_exit`` commits a clean request before its response starts. ``connect_timeout``,
    ``pool_timeout``, ``statement_timeout`` and ``request_timeout`` (until the response starts, held by the middleware)
    are seconds, None for no bound. ``sqlite`` sets every SQLite connection (`SQLiteSettings`). ``replicas`` are read
    from: URLs, ``(url, weight)`` or `Replica`; ``position_key`` signs the tokens by which clients read their own writes
    there (the environment's ``DATABASE_POSITION_KEY``, else a random key of this process). ``pooler`` is None or
    "pgbouncer". ``migrations`` lets `lifespan` require that the database is at head ("check") or bring it there
    ("upgrade"). ``metadata`` and ``model_class`` shape ``db.Base``. ``verbose`` and ``async_`` are accepted and have no
    effect.

    Raises `ConfigurationError` for a URL or value that cannot be; nothing is connected before the first use.
    """

    doors: ClassVar[Doors]
    prepare: ClassVar[Callable[[SQLAlchemy, Literal["check", "upgrade"]], None]]

    def __init__(
        self,
        url: str | URL | None = None,
        *,
        async_url: str | URL | None = None,
        custom_engine: Engine | None = None,
        async_custom_engine: AsyncEngine | None = None,
        engine_args: Mapping[str, Any] | None = None,
        async_engine_args: Mapping[str, Any] | None = None,
        session_args: Mapping[str, Any] | None = None,
        async_session_args: Mapping[str, Any] | None = None,
        commit_on_exit: bool = False,
        expire_on_commit: bool = False,
        replicas: Sequence[ReplicaOption] = (),
        pooler: str | None = None,
        position_key: str | None = None,
        metadata: MetaData | None = None,
        model_class: type = ModelBase,
        connect_timeout: float | None = 5,
        pool_timeout: float | None = 5,
        statement_timeout: float | None = 30,
        request_timeout: float | None = None,
        sqlite: Mapping[str, Any] | None = None,
        migrations: Literal["check", "upgrade"] | None = None,
        verbose: int = 0,
        async_: bool | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "async_url": async_url,
            "custom_engine": custom_engine,
            "async_custom_engine": async_custom_engine,
            "engine_args": engine_args,
            "async_engine_args": async_engine_args,
            "session_args": session_args,
            "async_session_args": async_session_args,
            "commit_on_exit": commit_on_exit,
            "expire_on_commit": expire_on_commit,
            "replicas": replicas,
            "pooler": pooler,
            "position_key": position_key,
            "connect_timeout": connect_timeout,
            "pool_timeout": pool_timeout,
            "statement_timeout": statement_timeout,
            "request_timeout": request_timeout,
            "sqlite": sqlite,
            "migrations": migrations,
        }
        self._binding: Binding | None = None
        self._latest: Binding | None = None
        self._overrides: list[Binding] = []
        self._bindings: weakref.WeakSet[Binding] = weakref.WeakSet()
        self.extensions: dict[str, Any] = {}
        """What other parts of the package keep for this database; it lives as long as the database does."""
        self._model_class = model_class
        self._base = declarative_base_for(model_class, metadata)
        adopt(self._base.metadata, self)
        _databases.add(self)
        if any(given is not None for given in (url, async_url, custom_engine, async_custom_engine)):
            self._binding = Binding(url, self._options)

    def init(
        self,
        url: str | URL | None = None,
        *,
        metadata: MetaData | None = None,
        model_class: type | None = None,
        **options: Unpack[DatabaseOptions],
    ) -> None:
        """Give the database its URL, or options that replace those of the constructor.

        Without a URL or an engine the environment variable ``DATABASE_URL`` is used. ``metadata`` and ``model_class``
        make a new ``db.Base``, so they come before the first model.
        Raises `MissingDatabaseError` (a ValueError) when nothing says which database, `UnknownOptionError` (a
        TypeError) for an option that does not exist, `ConfigurationError` for a base where there are models.
        """
        merged: dict[str, Any] = {**self._options, **options}
        if url is None and all(
            merged.get(name) is None for name in ("async_url", "custom_engine", "async_custom_engine")
        ):
            url = DatabaseConfig.url_from_environment()
        binding = Binding(url, merged)
        if metadata is not None or model_class is not None:
            self._replace_base(metadata, model_class)
        if self._binding is not None:
            self._binding.source.dispose()
        self._options, self._binding = merged, binding

    def _replace_base(self, metadata: MetaData | None, model_class: type | None) -> None:
        if self._base.registry.mappers or self._base.metadata.tables:
            raise ConfigurationError(
                "metadata and model_class shape `db.Base`, and it has models already. Give them to SQLAlchemy(...), or "
                "call init() before the first model."
            )
        self._base = declarative_base_for(model_class or self._model_class, metadata)
        self._model_class = model_class or self._model_class
        adopt(self._base.metadata, self)

    def bind(self, url: str | URL | None, options: Mapping[str, Any]) -> Binding:
        """Engines of their own for one application that uses this object under another URL."""
        binding = Binding(url, {**self._options, **options})
        self._bindings.add(binding)
        self._latest = binding
        return binding

    def __repr__(self) -> str:
        if not self.initiated:
            return "<SQLAlchemy (not initialised)>"
        return f"<SQLAlchemy {masked(self._current_binding().source.url)}>"

    @property
    def initiated(self) -> bool:
        """Whether the database has a URL or an engine."""
        return self._binding is not None or self._latest is not None or bool(self._overrides)

    @property
    def migrations(self) -> Literal["check", "upgrade"] | None:
        """What `lifespan` does about migrations."""
        return self._current_binding().migrations

    @property
    def Base(self) -> Any:  # noqa: N802  # the name is the contract
        """The declarative base of the models."""
        return self._base

    @property
    def BaseModel(self) -> Any:  # noqa: N802  # the name is the contract
        """The same as ``Base``."""
        return self._base

    @property
    def metadata(self) -> MetaData:
        """The metadata that holds the tables of the models."""
        return cast(MetaData, self._base.metadata)

    @property
    def url(self) -> URL:
        """The URL of the database; its repr masks the password."""
        return self._current_binding().source.url

    @property
    def source(self) -> EngineSource:
        """What builds the engines."""
        return self._current_binding().source

    @property
    def replicas(self) -> Replicas:
        """The replicas that are read from; ``db.replicas.status()`` tells how they are."""
        return self.source.replicas

    @property
    def engine(self) -> Engine:
        """The synchronous engine, built on first use, once per process."""
        return self.source.sync()

    @property
    def async_engine(self) -> AsyncEngine:
        """The asynchronous engine of the running event loop, built on first use."""
        return self.source.asynchronous()

    @property
    def commit_on_exit(self) -> bool:
        """Whether a clean scope commits, unless it says otherwise."""
        return self._current_binding().commit_on_exit

    @property
    def scope(self) -> Scope:
        """The innermost open scope; raises `MissingSessionError` where there is none."""
        scope = current_scope(self)
        if scope is None:
            raise MissingSessionError if self.initiated else SessionNotInitialisedError
        return scope

    @property
    def session(self) -> Session:
        """The session of the innermost open scope; raises `MissingSessionError` where there is none."""
        return self.scope.session

    @property
    def sync_session(self) -> Session:
        """The same as ``session``."""
        return self.scope.session

    @property
    def async_session(self) -> AsyncSession:
        """The async session of the innermost open scope; raises `MissingSessionError` where there is none."""
        return self.scope.async_session

    def open_scope(
        self,
        binding: Binding | None = None,
        *,
        session_args: Mapping[str, Any] | None = None,
        commit_on_exit: bool | None = None,
        writing: bool = False,
        read_only: bool = False,
        awaitable: bool = False,
    ) -> Scope:
        """A new scope, not yet part of any context; every door goes through here."""
        if binding is None:
            binding = self._current_binding()
        given = session_args or {}
        scope = Scope(
            self,
            binding.source,
            session_args={**binding.session_args, **given} if given else binding.session_args,
            async_session_args={**binding.async_session_args, **given} if given else binding.async_session_args,
            commit_on_exit=binding.commit_on_exit if commit_on_exit is None else commit_on_exit,
            writing=writing,
            read_only=read_only,
            awaitable=awaitable,
            has_options=bool(given),
        )
        scope.binding = binding
        return scope

    def unused_binding(self, *, alone: bool = False) -> Binding | None:
        """The engines and settings that a session opened here would have; None where one is open already.

        ``alone`` says None too where a scope is around, or would be opened.
        """
        found = unused_binding(self)
        if found is None:
            return self.default_binding()
        return None if alone or found is IN_USE else cast(Binding, found)

    def __call__(
        self, session_args: Mapping[str, Any] | None = None, commit_on_exit: bool | None = None
    ) -> ScopeContext:
        """A scope of its own for ``with`` or ``async with``; also inside of another scope, which it leaves alone."""
        return ScopeContext(self, session_args=session_args, commit_on_exit=commit_on_exit)

    def read_only(self) -> ScopeContext:
        """A scope that refuses to write, for ``with`` or ``async with`` or as a decorator; it reads on a replica.

        What was written before in the same request, or by a client that sends its position, is seen: such a read goes
        to the primary until a replica has it too.
        """
        return ScopeContext(self, commit_on_exit=False, read_only=True)

    def sync_context(self, function: Callable[P, T]) -> Callable[P, T]:
        """Run every call of ``function`` in a scope of its own.

        Raises `AsyncScopeRequiredError` for an async function, whose body runs after the call.
        """
        if inspect.iscoroutinefunction(function):
            raise AsyncScopeRequiredError(f"{function.__qualname__} is async. Decorate it with `@db.async_context`.")

        @functools.wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            with self():
                return function(*args, **kwargs)

        return inside

    def async_context(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Run every call of the async ``function`` in a scope of its own."""

        @functools.wraps(function)
        async def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self():
                return await function(*args, **kwargs)

        return inside

    def transaction(self, retries: int = 0) -> Transaction:
        """A transaction, or a savepoint inside of one: for ``with``, ``async with`` or as a decorator.

        ``retries``: how often a decorated function is run again after a serialization failure or a deadlock.
        """
        return Transaction(self, self.open_scope, retries=retries)

    def on_commit(self, function: Callback) -> None:
        """Call ``function`` once the current transaction is really committed, and never if it is rolled back."""
        self.scope.on_commit(function)

    def abort(self) -> None:
        """Mark the current scope for rollback: whatever its end, nothing of it is committed."""
        self.scope.abort()

    async def run(
        self,
        work: Callable[[Session], T],
        *,
        read_only: bool = False,
        use_async: bool | None = None,
        retries: int = 0,
    ) -> T:
        """Call ``work(session)`` once, off the event loop, and commit when it returns.

        ``use_async`` runs it on the async engine in one greenlet, otherwise it runs in a worker thread; by default the
        faster of the two for the database. In an open scope it works on the session that is in use there; in a
        ``commit_on_exit`` scope or a ``db.transaction()`` it flushes, and the scope commits. An exception rolls back.
        ``read_only`` commits nothing: in an open scope it sees what was written there, and leaves it as it is.
        ``retries`` is how often it is called again after a deadlock or a serialization failure, where nothing else was
        written in the transaction.
        """
        for attempt in range(retries):
            attempted: list[Unit] = []
            try:
                return await self._run_once(work, read_only, use_async, attempted)
            except Exception as error:
                if not is_conflict(error) or not all(unit.repeatable for unit in attempted):
                    raise
            await anyio.sleep(pause(attempt))
        return await self._run_once(work, read_only, use_async, None)

    async def _run_once(
        self, work: Callable[[Session], T], read_only: bool, use_async: bool | None, attempted: list[Unit] | None
    ) -> T:
        outer = current_scope(self)
        if outer is not None and (outer.closed or (read_only and outer.leaves_reads_to_replicas)):
            outer = None
        if use_async is None and outer is not None:
            use_async = outer.works_async
        if use_async is None:
            source = self.source if outer is None else outer.source
            use_async = source.dialect_name != "sqlite" and source.has_async_driver()
        if outer is None:
            scope = self.open_scope(
                commit_on_exit=not read_only, writing=not read_only, read_only=read_only, awaitable=True
            )
            return await run_alone(scope, work, use_async)
        if read_only:
            return await look_inside(outer, work, use_async)
        return await run_inside(outer, work, use_async, attempted)

    def create_all(self) -> None:
        """Create the tables of the models that are missing; safe when many processes do so at once."""
        with self.source.begin() as connection:
            create_tables(connection, self.metadata)

    def drop_all(self, *, confirmed: bool = False) -> None:
        """Drop the tables of the models with all their rows; raises `NotConfirmedError` unless ``confirmed``."""
        if not confirmed:
            raise NotConfirmedError
        with self.source.begin() as connection:
            drop_tables(connection, self.metadata)

    async def acreate_all(self) -> None:
        """The async twin of ``create_all()``."""
        async with self.async_engine.begin() as connection:
            await connection.run_sync(create_tables, self.metadata)

    async def adrop_all(self, *, confirmed: bool = False) -> None:
        """The async twin of ``drop_all()``."""
        if not confirmed:
            raise NotConfirmedError
        async with self.async_engine.begin() as connection:
            await connection.run_sync(drop_tables, self.metadata)

    def isolated(self) -> Isolation[SQLAlchemy]:
        """For tests: everything inside ``with`` or ``async with`` is rolled back at the end, commits included."""
        return Isolation(self, self.source)

    def override(
        self, url: str | URL | None = None, **options: Unpack[DatabaseOptions]
    ) -> Override[SQLAlchemy, Binding]:
        """For tests: inside ``with`` or ``async with`` every door leads to the database of ``url``, in all threads.

        The other options are those of ``init()``, and count in the block alone. What belongs to the former URL (an
        ``async_url``, engines made elsewhere, replicas, a pooler; ``engine_args`` if the dialect is another) does not
        come along. The engines are disposed at the end; blocks may be nested.
        Raises `TransactionUsageError` where a scope of the database is open.
        """
        return Override(self, self._overrides, lambda: self._binding_in_place(url, options))

    def dispose(self) -> None:
        """Close the idle connections of the synchronous engine; the next use opens new ones."""
        self.source.dispose()

    async def adispose(self) -> None:
        """Close the idle connections of both engines of this event loop; the next use opens new ones."""
        await self.source.adispose()

    @functools.cached_property
    def get_session(self) -> Callable[..., Coroutine[Any, Any, Session]]:
        """FastAPI dependency: ``session: Session = Depends(db.get_session)``."""
        return self.doors.session_dependency(self)

    @functools.cached_property
    def get_async_session(self) -> Callable[..., Coroutine[Any, Any, AsyncSession]]:
        """FastAPI dependency: ``session: AsyncSession = Depends(db.get_async_session)``."""
        return self.doors.async_session_dependency(self)

    @functools.cached_property
    def get_read_only_session(self) -> Callable[..., Coroutine[Any, Any, Session]]:
        """FastAPI dependency: a session that reads on a replica, beside the request's own; see ``read_only()``."""
        return self.doors.session_dependency(self, read_only=True)

    @functools.cached_property
    def get_async_read_only_session(self) -> Callable[..., Coroutine[Any, Any, AsyncSession]]:
        """The async twin of ``get_read_only_session``."""
        return self.doors.async_session_dependency(self, read_only=True)

    def lifespan(self, app: FastAPI) -> AbstractAsyncContextManager[None]:
        """For ``FastAPI(lifespan=db.lifespan)``: waits for the database, creates missing tables, disposes at the end.

        It also puts `DBSessionMiddleware` around the application when it is not there.
        """
        return self.doors.lifespan(self, app)

    @staticmethod
    def metadata_at(url: URL) -> list[MetaData]:
        """The metadata of every database object that was given this URL; several may share one database."""
        return [one.metadata for one in list(_databases) if one._binding and one._binding.source.url == url]

    def _binding_in_place(self, url: str | URL | None, options: Mapping[str, Any]) -> Binding:
        engines = ("custom_engine", "async_custom_engine")
        if url is None and all(options.get(name) is None for name in ("async_url", *engines)):
            made_elsewhere = any(self._options[name] is not None for name in engines)
            return Binding(None if made_elsewhere else self.url, {**self._options, **options})
        fresh: dict[str, Any] = {
            **self._options,
            "async_url": None,
            "custom_engine": None,
            "async_custom_engine": None,
            "replicas": (),
            "pooler": None,
        }
        dialect = None if url is None else parse_url(url).get_backend_name()
        if not self.initiated or dialect != self.default_binding().source.dialect_name:
            fresh.update(engine_args=None, async_engine_args=None)
        return Binding(url, {**fresh, **options})

    def _current_binding(self) -> Binding:
        scope = current_scope(self)
        if scope is not None and scope.binding is not None:
            return cast(Binding, scope.binding)
        return self.default_binding()

    def binding_for(self, given: Binding | None) -> Binding:
        """The binding of an application that has ``given``: that of the innermost ``override()`` comes first."""
        return self.default_binding() if given is None or self._overrides else given

    def default_binding(self) -> Binding:
        """What holds where no scope is open: the innermost ``override()``, else the URL of the constructor or
        ``init()``, else that of the one application.

        Raises `SessionNotInitialisedError`, or `AmbiguousDatabaseError` where several applications give it one each.
        """
        if overrides := tuple(self._overrides):  # another thread may end one meanwhile
            return overrides[-1]
        if self._binding is not None:
            return self._binding
        if self._latest is None:
            raise SessionNotInitialisedError
        if len({binding.source.url for binding in self._bindings}) > 1:
            gc.collect()
            if len({binding.source.url for binding in self._bindings}) > 1:
                raise AmbiguousDatabaseError
        return self._latest


class ScopeContext:
    """What ``db()`` returns: a scope for ``with`` or ``async with`` that yields the database."""

    def __init__(self, database: SQLAlchemy, **options: Any) -> None:
        self._database = database
        self._options = options
        self._entered: list[Scope] = []

    def __call__(self, function: F) -> F:
        """Run every call of a function, plain or async, in a scope of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def inside_async(*args: Any, **kwargs: Any) -> Any:
                async with ScopeContext(self._database, **self._options):
                    return await function(*args, **kwargs)

            return cast(F, inside_async)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with ScopeContext(self._database, **self._options):
                return function(*args, **kwargs)

        return cast(F, inside)

    def _open(self, *, awaitable: bool) -> SQLAlchemy:
        options = self._options
        writing = bool(options.get("commit_on_exit"))
        scope = self._database.open_scope(writing=writing, awaitable=awaitable, **options)
        scope.push()
        self._entered.append(scope)
        return self._database

    def __enter__(self) -> SQLAlchemy:
        return self._open(awaitable=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        scope = self._entered.pop()
        try:
            scope.complete(clean=error is None)
        finally:
            scope.pop()
            scope.close()

    async def __aenter__(self) -> SQLAlchemy:
        return self._open(awaitable=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        scope = self._entered.pop()
        try:
            await scope.complete_async(clean=error is None)
        finally:
            scope.pop()
            await scope.close_async()


db = SQLAlchemy()
"""The module-level database of the older API: ``from fastapi_sqlalchemy import db``."""
