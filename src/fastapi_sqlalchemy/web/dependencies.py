"""The FastAPI dependencies: one scope per request and database, ended before the response starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ..database import SQLAlchemy
from ..scope import Scope
from ..sessions import AsyncSession, Session
from .departures import watched
from .problems import handle_database_errors
from .requests import expects_writes, request_scope

__all__ = ["async_session_dependency", "session_dependency"]


def session_dependency(database: SQLAlchemy, *, read_only: bool = False) -> Callable[..., Coroutine[Any, Any, Session]]:
    """The dependency that gives the request's session, or one of its own that reads on a replica."""
    opened = _read_only_dependency(database) if read_only else _scope_dependency(database)

    async def get_session(connection: HTTPConnection, scope: Any = Depends(opened, scope="function")) -> Session:
        session: Session = scope.session
        if connection.scope["type"] == "http":
            await scope.take_turn(connection.scope.get("endpoint"))
        return session

    return get_session


def async_session_dependency(
    database: SQLAlchemy, *, read_only: bool = False
) -> Callable[..., Coroutine[Any, Any, AsyncSession]]:
    """The dependency that gives the request's async session, or one of its own that reads on a replica."""
    opened = _read_only_dependency(database) if read_only else _scope_dependency(database)

    async def get_async_session(scope: Any = Depends(opened, scope="function")) -> AsyncSession:
        session: AsyncSession = scope.async_session
        return session

    return get_async_session


def _scope_dependency(database: SQLAlchemy) -> Callable[[HTTPConnection, Response], AsyncIterator[Scope]]:
    """A generator that FastAPI ends between the serialization and the start of the response.

    The session dependencies are plain functions on top of it, so that the scope ends there whatever ``scope=`` the
    user gives to ``Depends``.
    """
    known: Any = database.__dict__.get("_scope_dependency")
    if known is not None:
        return known  # type: ignore[no-any-return]

    async def open_scope(connection: HTTPConnection, response: Response) -> AsyncIterator[Scope]:
        outer = request_scope(connection.scope, database)
        if outer is not None:
            yield outer
            return
        handle_database_errors(connection.scope, database.metadata)
        scope = database.open_scope(writing=expects_writes(connection.scope), awaitable=True)
        scope.push()
        clean = False
        try:
            with watched(connection, scope.interrupt):
                yield scope
            route = connection.scope.get("route")
            # None until the endpoint sets it
            status: Any = response.status_code or getattr(route, "status_code", None)
            clean = status is None or status < 400
        finally:
            try:
                await scope.complete_async(clean=clean)
            finally:
                scope.pop()
                await scope.close_async()

    database.__dict__["_scope_dependency"] = open_scope
    return open_scope


def _read_only_dependency(database: SQLAlchemy) -> Callable[..., AsyncIterator[Scope]]:
    """A scope beside that of the request: ``db.session`` stays what it is."""
    known: Any = database.__dict__.get("_read_only_dependency")
    if known is not None:
        return known  # type: ignore[no-any-return]

    async def open_read_only(connection: HTTPConnection) -> AsyncIterator[Scope]:
        handle_database_errors(connection.scope, database.metadata)
        scope = database.open_scope(commit_on_exit=False, read_only=True, awaitable=True)
        try:
            with watched(connection, scope.interrupt):
                yield scope
        finally:
            await scope.close_async()

    database.__dict__["_read_only_dependency"] = open_read_only
    return open_read_only
