"""The FastAPI dependencies: one scope per request and database, ended before the response starts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from ..database import SQLAlchemy
from ..scope import Scope
from ..sessions import AsyncSession, Session
from .departures import watched
from .problems import handle_database_errors
from .requests import expects_writes, request_scope

__all__ = ["async_session_dependency", "session_dependency"]

_VISITS = "fastapi_sqlalchemy.visits"
"""Where the ASGI scope keeps what the dependencies of its request have opened."""


def session_dependency(database: SQLAlchemy, *, read_only: bool = False) -> Callable[..., Coroutine[Any, Any, Session]]:
    """The dependency that gives the request's session, or one of its own that reads on a replica."""
    scope_of = _read_only_scope if read_only else _scope

    async def get_session(connection: HTTPConnection, response: Response) -> Session:
        scope = scope_of(database, connection, response)
        session = scope.session
        if connection.scope["type"] == "http":
            endpoint: Any = connection.scope.get("endpoint")
            await scope.take_turn(endpoint)
        return session

    if read_only:
        get_session.__name__ = "get_read_only_session"
    return get_session


def async_session_dependency(
    database: SQLAlchemy, *, read_only: bool = False
) -> Callable[..., Coroutine[Any, Any, AsyncSession]]:
    """The dependency that gives the request's async session, or one of its own that reads on a replica."""
    scope_of = _read_only_scope if read_only else _scope

    async def get_async_session(connection: HTTPConnection, response: Response) -> AsyncSession:
        return scope_of(database, connection, response).async_session

    if read_only:
        get_async_session.__name__ = "get_async_read_only_session"
    return get_async_session


def _scope(database: SQLAlchemy, connection: HTTPConnection, response: Response) -> Scope:
    outer = request_scope(connection.scope, database)
    if outer is not None:
        return outer
    visits = _visits(connection)
    visit = visits.get(database)
    if visit is None:
        scope = database.open_scope(writing=expects_writes(connection.scope), awaitable=True)
        visit = _Visit(database, database, scope, connection, response, visits)
        scope.push()
    return visit.scope


def _read_only_scope(database: SQLAlchemy, connection: HTTPConnection, response: Response) -> Scope:
    """A scope beside that of the request: ``db.session`` stays what it is."""
    visits = _visits(connection)
    visit = visits.get((database, "read_only"))
    if visit is None:
        scope = database.open_scope(commit_on_exit=False, read_only=True, awaitable=True)
        visit = _Visit((database, "read_only"), database, scope, connection, response, visits)
    return visit.scope


def _visits(connection: HTTPConnection) -> MutableMapping[object, _Visit]:
    found: MutableMapping[object, _Visit] = connection.scope.setdefault(_VISITS, {})
    return found


class _Visit:
    """A scope of one request, whose dependencies share it; FastAPI ends it as it ends its own.

    It goes on the stack of what ends between the serialization and the start of the response, whatever ``scope=`` the
    user gives to ``Depends``. A generator there would be a dependency more to solve, for every request.
    """

    def __init__(
        self,
        key: object,
        database: SQLAlchemy,
        scope: Scope,
        connection: HTTPConnection,
        response: Response,
        visits: MutableMapping[object, _Visit],
    ) -> None:
        stack = connection.scope.get("fastapi_function_astack")
        if not isinstance(stack, AsyncExitStack):
            raise RuntimeError(
                "The session dependencies belong to the routes of FastAPI. Elsewhere: `async with db():`."
            )
        self.scope = scope
        self._key = key
        self._connection = connection
        self._response = response
        self._visits = visits
        handle_database_errors(connection.scope, database.metadata)
        self._watching = watched(connection, scope.interrupt)
        self._watching.__enter__()
        stack.push_async_exit(self._end)
        visits[key] = self

    async def _end(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        del self._visits[self._key]
        self._watching.__exit__(None, None, None)
        scope = self.scope
        try:
            await scope.complete_async(clean=error is None and self._is_success())
        finally:
            scope.pop()
            await scope.close_async()

    def _is_success(self) -> bool:
        route = self._connection.scope.get("route")
        # None until the endpoint sets it
        status: Any = self._response.status_code or getattr(route, "status_code", None)
        return status is None or status < 400
