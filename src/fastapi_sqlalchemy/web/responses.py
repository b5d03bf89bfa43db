"""The end of a request, seen from the middleware: commit or roll back before the first byte, answer what failed."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

from fastapi import HTTPException
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as ASGIScope

from ..database import Binding, SQLAlchemy
from ..engines import EngineSource
from ..engines.cancellation import cancel_statement
from ..engines.positions import Watermark
from ..scope import IN_USE, Frame, Scope
from .departures import Departure, is_watched
from .position import response_headers, watermark_for
from .problems import DatabaseErrorHandler, handle_database_errors
from .requests import expects_writes
from .sqlstate import TIMEOUT, UNAVAILABLE, cause_of

__all__ = ["Databases", "Exchange", "Opener"]

_BODIES = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


class Opener(Protocol):
    """Opens the scope of one database of a middleware."""

    @property
    def binding(self) -> Binding:
        """The engines and settings that the scope will have."""
        ...

    def __call__(self, writing: bool, /) -> Scope:
        """Open the scope; ``writing`` tells that the request's method is not a safe one."""
        ...


Databases: TypeAlias = Mapping[SQLAlchemy, Opener]
"""The databases of a middleware, each with what opens its scope."""


class _Replaced(BaseException):
    """Unwinds the application whose response could not be committed; the middleware answers in its place."""


class Exchange:
    """One request through the middleware: opens a scope when it is asked for, and ends all of them.

    It is the request's level of the context (`Frame`); a request that uses no database opens nothing.
    """

    scopes: tuple[Scope, ...] = ()
    _started = False
    _finished = False
    _closed = False
    _failure: Exception | None = None
    _cors: Sequence[tuple[bytes, bytes]] = ()
    _watermarks: Mapping[EngineSource, Watermark] = {}
    _departure: Departure | None = None

    def __init__(
        self, databases: Databases, outer: Frame | None, asgi_scope: ASGIScope, receive: Receive, send: Send
    ) -> None:
        self._databases = databases
        self._outer: Frame | None = outer
        self._asgi_scope: Any = asgi_scope
        self._receive: Any = receive
        self._send: Any = send

    def receive_of(self) -> Receive:
        """What the application receives by; where a client may be given up, by way of what watches it."""
        if not is_watched(self._asgi_scope):
            received: Receive = self._receive
            return received
        self._departure = Departure(self._receive, self._interrupt)
        return self._departure.receive

    def scope_of(self, owner: object) -> Scope | None:
        """The request's scope of this database, opened on the first call."""
        for scope in self.scopes:
            if scope.owner is owner:
                return scope
        outer = None if self._outer is None else self._outer.scope_of(owner)
        open_scope = self._databases.get(cast(SQLAlchemy, owner))
        if open_scope is None:
            return outer
        scope = open_scope(not self._closed and expects_writes(self._asgi_scope))
        if outer is not None and outer.source is scope.source:
            return outer
        scope.closed = self._closed
        self.scopes = (*self.scopes, scope)
        if self._departure is not None:
            self._departure.expect()
        if self._asgi_scope is not None:
            # answered by the application that serves the request: its inner middleware, CORS included, sees the problem
            handle_database_errors(self._asgi_scope, cast(SQLAlchemy, owner).metadata)
        return scope

    def watermark_of(self, source: EngineSource) -> Watermark | None:
        """What the request has to see of a database with replicas: what its token says, and what it has written."""
        found = self._watermarks.get(source)
        if found is None and self._outer is not None:
            found = self._outer.watermark_of(source)
        elif found is None and self._asgi_scope is not None and len(source.replicas) > 0:
            found = watermark_for(source, self._asgi_scope)
            self._watermarks = {**self._watermarks, source: found}
        return found

    def unused_binding(self, owner: object) -> object:
        """See `Frame`: like `scope_of`, but opens nothing."""
        for scope in self.scopes:
            if scope.owner is owner:
                return scope.unused_binding(owner)
        outer = None if self._outer is None else self._outer.unused_binding(owner)
        opener = self._databases.get(cast(SQLAlchemy, owner))
        if opener is None or outer is not None:
            return outer if opener is None else IN_USE
        return IN_USE if self._closed else opener.binding

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; before the first one of a response, end the transactions."""
        kind = message["type"]
        if kind == "http.response.start":
            if (self.scopes or self._watermarks) and not self._started:
                return self._start_response(message)
            self._started = True
        elif kind in _BODIES:
            self._finished = not message.get("more_body", False)
            if self._finished and self._departure is not None:
                self._departure.over()
        passed: Awaitable[None] = self._send(message)
        return passed

    async def ended(self) -> None:
        """The application returned: end what it left open.

        A response that was not sent to its end was given up, most often because its client is gone: a statement may
        have been cancelled in the middle, and nobody got the result. That is no clean end.
        """
        try:
            await self._complete(clean=self._finished or self._asgi_scope["type"] != "http")
        except Exception as error:
            if self._started or self._asgi_scope["type"] != "http":
                raise
            await self._answer(error)
        finally:
            await self.close()

    async def failed(self, error: BaseException) -> None:
        """The application raised: roll back, then answer in its place or raise on."""
        application = self._asgi_scope.get("app")
        try:
            if _replaces(error) and self._failure is not None:
                error = self._failure
            else:
                await self._complete(clean=False)
            if self._started and self._was_interrupted(error):
                return
            if self._started or not self.scopes or not isinstance(error, Exception):
                raise error
            await self._answer(error, application)
        finally:
            await self.close()

    async def refuse(self, error: Exception) -> None:
        """Answer a request that the application does not get to see."""
        await self._answer(error)

    async def close(self) -> None:
        """Close every scope; what still uses one gets an error that names the cure."""
        self._closed = True
        for scope in reversed(self.scopes):
            await scope.close_async()

    def release(self) -> None:
        """Let go of the request: timers and tasks that copied the context keep this object, and with it no more."""
        self._closed = True
        if self._departure is not None:
            self._departure.over()
            self._departure = None
        self._asgi_scope = self._outer = self._receive = self._send = None

    async def _interrupt(self) -> bool:
        """End the statements that run now; whether there were any."""
        running = [session for scope in self.scopes for session in scope.sessions if not session.idle]
        return any([await cancel_statement(each) for session in running for each in session.connections()])

    def _was_interrupted(self, error: BaseException) -> bool:
        """Whether the error is that of a statement that was ended since the client is gone: nobody is to hear of it."""
        if self._departure is None or not self._departure.gone:
            return False
        errors: tuple[BaseException, ...] = getattr(error, "exceptions", (error,))
        # once a response has started, Starlette raises a RuntimeError from what a handler would have answered
        causes = [each.__cause__ if isinstance(each, RuntimeError) and each.__cause__ else each for each in errors]
        return all(cause_of(each) in (TIMEOUT, UNAVAILABLE) for each in causes)

    async def _start_response(self, message: Message) -> None:
        if self._failure is not None:
            raise _Replaced
        try:
            await self._before_response(message)
        except Exception as error:
            self._failure = error
            self._cors = [header for header in message.get("headers", ()) if _is_cors(header[0])]
            raise _Replaced from error
        self._started = True
        if self._watermarks:
            secure = self._asgi_scope.get("scheme") == "https"
            headers = response_headers(self._watermarks, secure=secure)
            if headers:
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await self._send(message)

    async def _before_response(self, message: Message) -> None:
        if message["status"] < 400 and _is_event_stream(message) and _is_generator(self._asgi_scope.get("endpoint")):
            return  # its generator runs already, in a task of its own, and works on this session at this moment
        if len(self.scopes) > 1 and message["status"] < 400:
            for scope in self.scopes:
                await scope.flush_async()
        for scope in self.scopes:
            if message["status"] >= 400:
                await scope.complete_async(clean=False)
            elif scope.commit_on_exit if scope.has_changes() else _has_length(message):
                # a stream without changes keeps its transaction: the cursor that it reads from lives in it
                await scope.complete_async(clean=True)

    async def _complete(self, *, clean: bool) -> None:
        for scope in self.scopes:
            await scope.complete_async(clean=clean)

    async def _answer(self, error: Exception, application: Any = None) -> None:
        """Answer with the application's own handler for the error, else with a problem, else raise it on."""
        asgi_scope = self._asgi_scope
        if asgi_scope["type"] != "http":
            raise error
        request = Request(asgi_scope, self._receive)
        if self._failure is not None:
            for candidate in (asgi_scope.get("app"), application):
                handler = _handler_for(candidate, error)
                if handler is not None:
                    await self._respond(handler, request, error)
                    return
        metadata = [database.metadata for database in self._databases]
        await self._respond(DatabaseErrorHandler(*metadata), request, error)

    async def _respond(self, handler: Any, request: Request, error: Exception) -> None:
        if is_async_callable(handler):
            response = await handler(request, error)
        else:
            response = await run_in_threadpool(handler, request, error)
        if isinstance(response, Response):
            response.raw_headers.extend(self._cors)
            await response(self._asgi_scope, self._receive, self._send)


def _replaces(error: BaseException | None) -> bool:
    """Whether the error is the one that unwound the application, be it wrapped by task groups."""
    if isinstance(error, BaseExceptionGroup):
        return cast(Any, error).split(_Replaced)[1] is None
    return isinstance(error, _Replaced)


def _handler_for(application: Any, error: Exception) -> Any:
    handlers = getattr(application, "exception_handlers", {})
    if isinstance(error, HTTPException) and error.status_code in handlers:
        return handlers[error.status_code]
    for kind in type(error).__mro__:
        if kind is Exception:
            return None
        if kind in handlers:
            return handlers[kind]
    return None


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def _is_generator(endpoint: Any) -> bool:
    function = inspect.unwrap(endpoint) if callable(endpoint) else endpoint
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)


def _is_cors(name: bytes) -> bool:
    """Whether a header tells a browser who may read the response (Fetch standard, "CORS protocol")."""
    return name.lower().startswith(b"access-control-") or name.lower() == b"vary"


def _has_length(message: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
