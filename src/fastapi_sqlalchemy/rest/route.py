"""The route class of generated routes: one error shape, bodies read by the endpoint, the true Allow on 405."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy import MetaData
from sqlalchemy import exc as sa_exc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from ..web.problems import Problem, ProblemError, ProblemResponse, answer_to, http_problem
from ..web.startup import describe_failure

__all__ = ["MAX_BODY", "CRUDEndpoint", "CRUDRequest", "CRUDRoute", "path_of"]

MAX_BODY = 1024 * 1024
"""Bytes that a request body may have."""

logger = logging.getLogger("fastapi_sqlalchemy")


_WITHOUT_VALUES: Final = frozenset({"limit", "offset", "sort", "fields", "include", "count"})
_PATH = "fastapi_sqlalchemy.path"
_NOTHING: Final[dict[str, Any]] = {}

Handle: TypeAlias = "Callable[[CRUDRequest], Coroutine[Any, Any, Response]]"


def path_of(request: Request) -> str:
    """The path of a request as a link has it: a slash inside of a name stays encoded."""
    return str(request.scope.get(_PATH, request.url.path))


class CRUDRequest(Request):
    """A request whose body only the endpoint reads; FastAPI sees an empty one and documents the parameter."""

    async def body(self) -> bytes:
        return b""

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """Return the body; raises a 413 problem past ``limit`` bytes."""
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)


class CRUDEndpoint:
    """The endpoint of a generated route: a coroutine function whose signature tells FastAPI of its parameters.

    ``work`` answers a request by itself, without what a dependency gives; ``is_direct`` tells whether it can now.
    """

    def __init__(
        self, work: Callable[[Request, Any], Coroutine[Any, Any, Response]], is_direct: Callable[[], bool]
    ) -> None:
        self._work = work
        self.is_direct = is_direct

    async def work(self, request: Request) -> Response:
        """Answer a request that has no scope of its own."""
        return await self._work(request, None)

    async def __call__(self, **arguments: Any) -> Response:
        return await self._work(arguments["request"], arguments.get("scope"))


class CRUDRoute(APIRoute):
    """A generated route.

    Every error is answered as a problem (RFC 9457), whoever raised it: the endpoint, a dependency or the database. An
    exception handler that the application has for exactly that class of database error goes first.
    """

    metadata: MetaData | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the path as it was sent where this route's own has percent signs: a name with a slash is one segment.

        Source: RFC 3986, section 2.2, an encoded reserved character is not the same as a plain one.
        """
        if "%" not in self.path or scope["type"] != "http":
            return super().matches(scope)
        path = _encoded_path(scope)
        match, child = super().matches({**scope, "path": path, "root_path": ""})
        child[_PATH] = f"{scope.get('root_path', '').rstrip('/')}{path}"
        if "path_params" in child:
            child["path_params"] = {name: _decoded(value) for name, value in child["path_params"].items()}
        return match, child

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await self._answered(handle, CRUDRequest(request.scope, request.receive))

        return handler

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one that no dependency takes part in goes to the endpoint's work without a detour."""
        work = self._direct_work(scope)
        if work is None:
            await super().handle(scope, receive, send)
            return
        response = await self._answered(work, CRUDRequest(scope, receive))
        await response(scope, receive, send)

    def _direct_work(self, scope: Scope) -> Handle | None:
        """What answers the request by itself; None where FastAPI has a part in it: dependencies, spans, limits."""
        endpoint: object = self.endpoint
        if not isinstance(endpoint, CRUDEndpoint) or scope.get("fastapi.telemetry") is not None:
            return None
        route: Any = scope.get("fastapi", _NOTHING).get("effective_route_context", self)
        if (
            route.dependant.dependencies
            or route.dependant.call is not endpoint
            or getattr(route, "max_body_size", None) is not None
            or scope["method"] not in (self.methods or ())
            or not endpoint.is_direct()
        ):
            return None
        work: Handle = endpoint.work
        return work

    async def _answered(self, handle: Handle, request: CRUDRequest) -> Response:
        try:
            return await handle(request)
        except Exception as error:
            response = self.failed(error, request)
            if response is None:
                raise
            return response

    def failed(self, error: Exception, request: Request) -> Response | None:
        """Return the problem that an error is answered with; None where it is for the application, or a fault."""
        if isinstance(error, (HTTPException, RequestValidationError)):
            return self._answer(http_problem(error), error)
        if type(error) in getattr(request.scope.get("app"), "exception_handlers", {}):
            return None
        problem = answer_to(request, error, self.metadata)
        if problem is not None and _is_of_the_view(request, problem):
            problem = None
        if problem is None and isinstance(error, sa_exc.DBAPIError):
            logger.error("%s: answered with 500: %s", self.path, describe_failure(error))
            return self.response(_refused())
        if problem is None:
            return None
        logger.info("%s: answered with %d %s", type(error).__name__, problem.status, problem.code)
        return self._answer(problem, error)

    def _answer(self, problem: Problem, error: Exception) -> Response:
        if problem.status < 200 or problem.status in (204, 205, 304):
            return Response(status_code=problem.status, headers=getattr(error, "headers", None))
        return self.response(problem)

    def response(self, problem: Problem) -> Response:
        """Return a problem in the shape of errors that the route has."""
        return ProblemResponse(problem)


def _encoded_path(scope: Scope) -> str:
    """The path below the application's root, each segment encoded in the one way that ``quote`` does."""
    raw = scope.get("raw_path")
    path = quote(scope["path"], safe="/") if raw is None else raw.partition(b"?")[0].decode("ascii", "replace")
    segments = path.split("/")
    root = scope.get("root_path", "").rstrip("/")
    if root and scope["path"].startswith(root):
        segments = ["", *segments[root.count("/") + 1 :]]
    return "/".join(quote(unquote(segment, errors="replace"), safe="") for segment in segments)


def _decoded(value: Any) -> Any:
    return unquote(value) if isinstance(value, str) else value


def _is_of_the_view(request: Request, problem: Problem) -> bool:
    """Whether values that a request could not have given are at fault: those that a view or a function computes."""
    if request.method not in ("GET", "HEAD") or problem.code not in ("validation_error", "check_violation"):
        return False
    given = {name.partition("__")[0] for name in request.query_params}
    return problem.code == "check_violation" or not (request.path_params or given - _WITHOUT_VALUES)


def _refused() -> Problem:
    """The problem of a statement that the database cannot run, such as one on a view that is broken."""
    detail = "The database cannot answer this request: what is asked for is not in order there."
    return Problem(status=500, code="database_error", detail=detail)


def _too_large(limit: int) -> ProblemError:
    detail = f"The body has more than {limit} bytes."
    return ProblemError(Problem(status=413, code="content_too_large", detail=detail))
