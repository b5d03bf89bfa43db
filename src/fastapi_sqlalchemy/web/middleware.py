"""`DBSessionMiddleware`: one scope per request and database, for HTTP and websockets."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from ..bindings import Binding
from ..config import EngineOptions
from ..database import SQLAlchemy
from ..database import db as default_database
from ..engines.sqlite import is_memory_url
from ..exceptions import ConfigurationError, MissingDatabaseError, UnknownOptionError
from ..scope import Scope, push, restore
from .departures import Lookout, lookout
from .requests import REQUEST_KEY
from .responses import Databases, Exchange
from .startup import describe_failure, start

__all__ = ["DBSessionMiddleware"]

logger = logging.getLogger("fastapi_sqlalchemy")


class _Opener:
    """Opens the request's scope of one database."""

    def __init__(self, database: SQLAlchemy, binding: Binding | None, commit_on_exit: bool | None) -> None:
        self._database = database
        self._binding = binding
        self._commit_on_exit = commit_on_exit

    @property
    def binding(self) -> Binding:
        return self._database.binding_for(self._binding)

    def __call__(self, writing: bool, /) -> Scope:
        return self._database.open_scope(
            self.binding, commit_on_exit=self._commit_on_exit, writing=writing, awaitable=True
        )


class DBSessionMiddleware(BaseHTTPMiddleware):
    """Opens a scope for each request, and ends it before the first byte of the response leaves.

    ``app.add_middleware(DBSessionMiddleware, db=db)`` for one database, ``db=[a, b]`` for several, or ``db_url=...``
    (or ``custom_engine=...``, with ``engine_args``, ``session_args``) to use the module-level ``db``. The second
    positional argument may be a database or a URL. ``commit_on_exit`` overrides the database's own setting;
    ``create_tables`` creates at startup what is missing, unless the database is under migrations.

    A response of 400 or more, and an exception, roll back. A commit that fails becomes the response, by the
    application's own exception handlers. So does `RequestTimeoutError`, where there is no response after
    ``request_timeout``. Websockets, streamed bodies and background tasks have a live session.

    Raises `MissingDatabaseError` (a ValueError and a TypeError) when nothing says which database.
    """

    def __init__(
        self,
        app: ASGIApp,
        db: SQLAlchemy | Sequence[SQLAlchemy] | str | URL | None = None,
        db_url: str | URL | Engine | None = None,
        custom_engine: Engine | None = None,
        engine_args: dict[str, Any] | None = None,
        session_args: dict[str, Any] | None = None,
        commit_on_exit: bool | None = None,
        *,
        create_tables: bool = True,
        **options: Unpack[EngineOptions],
    ) -> None:
        super().__init__(app)
        if isinstance(db, (str, URL)):
            if isinstance(db_url, Engine):
                custom_engine, db_url = db_url, None
            db, db_url = None, db
        if isinstance(db_url, Engine):
            raise ConfigurationError("db_url takes a URL; pass an engine as custom_engine.")
        self.commit_on_exit = commit_on_exit
        self.create_tables = create_tables
        self._databases: list[tuple[SQLAlchemy, Binding | None]] = []
        if db is not None:
            given = [db] if isinstance(db, SQLAlchemy) else _as_list(db)
            if not given or not all(isinstance(one, SQLAlchemy) for one in given):
                raise MissingDatabaseError("db takes a SQLAlchemy object or a sequence of them.")
            if options or engine_args or session_args or custom_engine is not None or db_url is not None:
                raise UnknownOptionError(
                    "__init__() got options of an engine together with db=. Give them to SQLAlchemy(url, ...), or pass "
                    "db_url= instead of db=."
                )
            self._databases = [(one, None) for one in dict.fromkeys(given)]
        else:
            if db_url is None and custom_engine is None and not _names_engine(options):
                raise MissingDatabaseError
            named: dict[str, Any] = {
                "custom_engine": custom_engine,
                "engine_args": engine_args,
                "session_args": session_args,
                "commit_on_exit": commit_on_exit,
            }
            settings = {**options, **{name: value for name, value in named.items() if value is not None}}
            self._databases = [(default_database, default_database.bind(db_url, settings))]
        self._openers: Databases = {
            database: _Opener(database, binding, commit_on_exit) for database, binding in self._databases
        }
        self._request_timeout: float | None = None
        self._started = False
        self._starting: asyncio.Lock | None = None
        self._lookout: Lookout | None = None

    @property
    def databases(self) -> list[SQLAlchemy]:
        """The databases that this middleware opens scopes for."""
        return [database for database, _ in self._databases]

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # the faster form, once a request
            if kind == "lifespan":
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        if not self._started and not await self._start_once(scope, receive, send):
            return
        outer = scope.get(REQUEST_KEY)
        exchange = Exchange(self._openers, outer, scope, receive, send, self._lookout_here())
        scope[REQUEST_KEY] = exchange
        before = push(exchange)
        try:
            if self._request_timeout is None or kind != "http":
                await self.app(scope, exchange.receive, exchange.send)
            else:
                await exchange.within(self._request_timeout, self.app)
        except BaseException as error:
            await exchange.failed(error)
        else:
            if exchange.scopes:
                await exchange.ended()
        finally:
            restore(before)
            scope[REQUEST_KEY] = outer
            exchange.release()

    def _lookout_here(self) -> Lookout:
        if self._lookout is None or self._lookout.loop_reference() is not asyncio.get_running_loop():
            self._lookout = lookout()
        return self._lookout

    async def _lifespan(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await self._start()
            except Exception as error:
                reason = describe_failure(error)
                logger.debug("The database could not be prepared", exc_info=True)
                await send({"type": "lifespan.startup.failed", "message": reason})
                raise  # a server that was told keeps quiet; a test client waits for it
        replayed: list[Message] = [message]

        async def receive_again() -> Message:
            return replayed.pop() if replayed else await receive()

        try:
            await self.app(scope, receive_again, send)
        finally:
            for database, binding in self._databases:
                await database.binding_for(binding).source.release()

    async def _start(self) -> None:
        bounds = list[float]()
        for database, binding in self._databases:
            used = database.binding_for(binding)
            bounds += [used.source.config.request_timeout or math.inf]
            source, create = used.source, self.create_tables and used.migrations is None
            await start(source, database.metadata, create=create)
            if binding is not None and not is_memory_url(source.url):
                # the older API: the models may hang on an object of their own, with the same URL
                for metadata in database.metadata_at(source.url):
                    await start(source, metadata, create=create)
        self._request_timeout = None if min(bounds) == math.inf else min(bounds)
        self._started = True

    async def _start_once(self, scope: ASGIScope, receive: Receive, send: Send) -> bool:
        """Prepare the tables before the first request where no lifespan ran; a failure is that request's answer."""
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self._started:
                try:
                    await self._start()
                except Exception as error:
                    await Exchange(self._openers, None, scope, receive, send, self._lookout_here()).refuse(error)
        return self._started


def _as_list(value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        return []


def _names_engine(options: Mapping[str, Any]) -> bool:
    return any(options.get(name) is not None for name in ("async_url", "async_custom_engine"))
