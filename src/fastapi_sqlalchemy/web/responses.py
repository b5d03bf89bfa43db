"""The end of a request, seen from the middleware: commit or roll back before the first byte, answer what failed."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

from fastapi import HTTPException
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from ..bindings import Binding
from ..database import SQLAlchemy
from ..engines import EngineSource
from ..engines.positions import Watermark
from ..exceptions import MissingSessionError, RequestTimeoutError, SessionClosedError
from ..scope import IN_USE, Interruption, Scope
from .deadline import Deadline
from .departures import Departure, Lookout, is_watched
from .messages import BODIES, cors_of, has_length, is_event_stream
from .position import response_headers, watermark_for
from .problems import DatabaseErrorHandler, handle_database_errors
from .requests import expects_writes
from .rollback import roll_back_first
from .sqlstate import DEADLINE, TIMEOUT, UNAVAILABLE, cause_of
from .startup import describe_failure

__all__ = ["Databases", "Exchange", "Opener"]

logger = logging.getLogger("fastapi_sqlalchemy")


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
    _raised = False
    _cors: Sequence[tuple[bytes, bytes]] = ()
    _watermarks: Mapping[EngineSource, Watermark] = {}
    _departure: Departure | None = None
    _deadline: Deadline | None = None
    _other_work: tuple[Interruption, ...] = ()
    _ending = False
    _overruled = False
    _guarded = False

    def __init__(
        self,
        databases: Databases,
        outer: Exchange | None,
        asgi_scope: ASGIScope,
        receive: Receive,
        send: Send,
        lookout: Lookout,
    ) -> None:
        self._databases = databases
        self._lookout = lookout
        self._outer: Exchange | None = outer
        self._asgi_scope: Any = asgi_scope
        self._receive: Any = receive
        self._send: Any = send

    @property
    def endpoint(self) -> object:
        """The function of the route, once the application has found it."""
        return None if self._asgi_scope is None else self._asgi_scope.get("endpoint")

    @property
    def receive(self) -> Receive:
        """What the application receives by; where a client may be given up, by way of what watches it."""
        received: Receive = self._receive_watched if is_watched(self._asgi_scope) else self._receive
        return received

    async def _receive_watched(self) -> Message:
        if self._receive is None:  # the response is over: what asks now outlives the request
            return {"type": "http.disconnect"}
        return await self._watch().receive()

    def _watch(self) -> Departure:
        """What watches the client; a request that neither receives nor uses a database needs none."""
        if self._departure is not None:
            return self._departure
        departure = Departure(self._receive, self.interrupt, self._lookout)
        if self._finished:
            departure.over()
        kept: Departure = vars(self).setdefault("_departure", departure)  # a thread may come to it at the same moment
        return kept

    def scope_of(self, owner: object) -> Scope | None:
        """The request's scope of this database, opened on the first call."""
        for scope in self.scopes:
            if scope.owner is owner:
                if not self._guarded:
                    self._guard()
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
        if self._asgi_scope is not None:
            if is_watched(self._asgi_scope):
                self._watch().expect()
            if not self._started and (stack := self._asgi_scope.get("fastapi_function_astack")) is not None:
                stack.push(self._note)
            self._guard()
        return scope

    def _guard(self) -> None:
        """Have exceptions handled by the application that serves the request, after its transactions are rolled back.

        Its inner middleware, CORS included, sees the problem that answers a database error.
        """
        if self._asgi_scope is not None:
            handle_database_errors(self._asgi_scope, *(database.metadata for database in self._databases))
            self._guarded = roll_back_first(self._asgi_scope)

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

    def note_work(self, interruption: Interruption) -> None:
        """See `Frame`: such work ends with the client and with the deadline too."""
        if self._asgi_scope is not None and is_watched(self._asgi_scope):
            self._watch().expect()
        if self._departure is not None or self._deadline is not None:
            self._other_work = (*self._other_work, interruption)

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; before the first one of a response, end the transactions."""
        kind = message["type"]
        if kind == "http.response.start":
            if not self._started and (self.scopes or self._watermarks or self._deadline is not None):
                return self._start_response(message)
            self._started = True
        elif kind in BODIES:
            self._finished = not message.get("more_body", False)
            if self._finished and self._departure is not None:
                self._departure.over()
        passed: Awaitable[None] = self._send(message)
        return passed

    async def within(self, seconds: float, app: ASGIApp) -> None:
        """Call the application; raises `RequestTimeoutError` where its response has not started after ``seconds``."""
        self._deadline = Deadline(seconds, self)
        try:
            with self._deadline.cancelling:
                await app(self._asgi_scope, self.receive, self.send)
        finally:
            await self._deadline.over()
        if self._deadline.expired:
            raise RequestTimeoutError

    async def ended(self) -> None:
        """The application returned: end what it left open.

        A response that was not sent to its end was given up, most often because its client is gone: a statement may
        have been cancelled in the middle, and nobody got the result. That is no clean end.
        """
        try:
            await self._complete(clean=self._finished if self._asgi_scope["type"] == "http" else not self._raised)
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
            if self._deadline is not None and self._deadline.expired:
                await self._timed_out(error, application)
                return
            if _replaces(error) and self._failure is not None:
                error = self._failure
            else:
                await self._complete(clean=False)
            if self._started and self._was_interrupted(error):
                reasons = "; ".join(describe_failure(cause) for cause in _causes(error))
                logger.info("The client of a stream is gone, and its statement was ended: %s", reasons)
                return
            if self._started or not self.scopes or not isinstance(error, Exception):
                raise error
            await self._answer(error, application)
        finally:
            await self.close()

    async def roll_back(self) -> None:
        """An exception is about to be answered by a handler of the application: undo what the request has done."""
        self._raised = True
        await self._complete(clean=False)
        if self._outer is not None:
            await self._outer.roll_back()

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
            del self._departure
        self._deadline = None
        self._asgi_scope = self._outer = self._receive = self._send = None
        self._other_work = ()

    def expire(self, seconds: float, /) -> bool:
        """See `Deadline`: nothing more is done in this request."""
        if self._ending:
            return False
        asgi_scope = self._asgi_scope
        logger.warning("%s %s has no answer after %g s; it ends.", asgi_scope["method"], asgi_scope["path"], seconds)
        self._failure = RequestTimeoutError()
        self._closed = True
        for scope in self.scopes:
            scope.end()
        return True

    async def overrule(self) -> None:
        """See `Deadline`: the application goes on, without a session and with nobody who hears it."""
        self._overruled = True
        for scope in self.scopes:
            if all(session.idle for session in scope.sessions):
                await scope.close_async()
        await self._answer(RequestTimeoutError())

    async def interrupt(self) -> bool:
        """End the statements that run now; whether there were any."""
        running = (*(scope.interrupt for scope in self.scopes), *self._other_work)
        return any([await interruption() for interruption in running])

    def _was_interrupted(self, error: BaseException) -> bool:
        """Whether the error is that of a statement that was ended since the client is gone: nobody is to hear of it."""
        if self._departure is None or not self._departure.gone:
            return False
        return all(cause_of(each) in (TIMEOUT, UNAVAILABLE) for each in _causes(error))

    async def _timed_out(self, error: BaseException, application: Any) -> None:
        """Answer, unless that is done; what the application raised by itself is raised on."""
        await self._complete(clean=False)
        if not isinstance(error, (Exception, _Replaced)):
            raise error
        if not self._overruled:
            await self._answer(RequestTimeoutError(), application)
        if not (_replaces(error) or all(_is_of_the_end(each) for each in _causes(error))):
            raise error

    async def _start_response(self, message: Message) -> None:
        if self._failure is not None:
            self._cors = self._cors or cors_of(message)
            raise _Replaced
        self._ending = True
        try:
            await self._before_response(message)
        except Exception as error:
            self._failure = error
            self._cors = cors_of(message)
            raise _Replaced from error
        self._started = True
        if self._deadline is not None:
            self._deadline.met()
        if self._watermarks:
            secure = self._asgi_scope.get("scheme") == "https"
            headers = response_headers(self._watermarks, secure=secure)
            if headers:
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await self._send(message)

    def _note(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Called by FastAPI as it leaves the endpoint and its dependencies, with what they raised."""
        self._raised = self._raised or error is not None

    async def _before_response(self, message: Message) -> None:
        clean = message["status"] < 400 and not self._raised and not _answers_exception()
        if clean and is_event_stream(message) and _is_generator(self.endpoint):
            return  # its generator runs already, in a task of its own, and works on this session at this moment
        if len(self.scopes) > 1 and clean:
            for scope in self.scopes:
                await scope.flush_async()
        for scope in self.scopes:
            if not clean:
                await scope.complete_async(clean=False)
            elif has_length(message) or (scope.commit_on_exit and scope.has_changes()):
                # a stream without changes to commit keeps its transaction: the cursor that it reads from lives in it
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


def _causes(error: BaseException) -> Sequence[BaseException]:
    """The errors in a group, as the application raised them."""
    errors: tuple[BaseException, ...] = getattr(error, "exceptions", (error,))
    # once a response has started, Starlette raises a RuntimeError from what a handler would have answered
    return [each.__cause__ if isinstance(each, RuntimeError) and each.__cause__ else each for each in errors]


def _is_of_the_end(error: BaseException) -> bool:
    """Whether the error is that of a request that has ended: of its statement, or of its session."""
    ended = isinstance(error, (SessionClosedError, MissingSessionError))
    return ended or cause_of(error) in (TIMEOUT, UNAVAILABLE, DEADLINE)


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


def _answers_exception() -> bool:
    """Whether the response that is sent here is that of an exception handler, whatever its status."""
    error = sys.exc_info()[1]
    caught_in = None if error is None or error.__traceback__ is None else error.__traceback__.tb_frame
    return caught_in is not None and caught_in.f_globals.get("__name__") == "starlette._exception_handler"


def _is_generator(endpoint: Any) -> bool:
    function = inspect.unwrap(endpoint) if callable(endpoint) else endpoint
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
