"""Errors as ``application/problem+json`` (RFC 9457), with no SQL, value, URL or traceback in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from sqlalchemy import MetaData
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm.exc import StaleDataError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from ..exceptions import DatabaseUnavailableError
from .rollback import RolledBackFirst
from .sqlstate import cause_of
from .violations import violation_of

__all__ = [
    "DatabaseErrorHandler",
    "Problem",
    "ProblemError",
    "ProblemResponse",
    "answer_to",
    "database_error_handler",
    "handle_database_errors",
    "http_error_handler",
    "http_problem",
    "install_problem_handlers",
    "problem_for",
    "problem_response",
    "problem_responses",
]

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = 1
"""Seconds that a client is told to wait before it repeats a request that may succeed then."""

_DATABASE_ERRORS: Final = (sa_exc.SQLAlchemyError, OSError, OverflowError, UnicodeEncodeError)
_MAX_ERRORS: Final = 100
_MAX_LENGTH: Final = 200
_NO_BODY: Final = frozenset({204, 205, 304})
_CODES: Final = {412: "precondition_failed", 422: "validation_error", 428: "precondition_failed"}


def _require_members(schema: dict[str, Any]) -> None:
    """Name the members that a body always has, defaults included."""
    always = ["type", "title", "status", "detail", "code", "fields"]
    schema["required"] = [*always, *(name for name in schema.get("required", ()) if name not in always)]


class Problem(BaseModel):
    """What went wrong, for programs (``code``, ``fields``) and for people (``title``, ``detail``).

    Source: RFC 9457, section 3.1 (members ``type``, ``title``, ``status``, ``detail``) and 3.2 (extension members).
    """

    model_config = ConfigDict(json_schema_extra=_require_members)

    type: str = Field(default="about:blank", description="A URI for the kind of problem; `code` tells the kinds apart.")
    title: str = Field(default="", description="The phrase of the status.")
    status: int = Field(ge=100, le=599, description="The HTTP status code.")
    detail: str = Field(description="A sentence about this case.")
    code: str = Field(description="The kind of problem, as a word that does not change.")
    fields: list[str] = Field(default_factory=list, description="The fields or columns concerned, if they are known.")
    constraint: str | None = Field(default=None, description="The name of the constraint that was broken.")
    errors: list[dict[str, Any]] | None = Field(
        default=None,
        description="One entry for each invalid value: where it was, what is wrong, and the kind of error.",
        json_schema_extra={
            "anyOf": [
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                            "msg": {"type": "string"},
                            "type": {"type": "string"},
                        },
                        "required": ["loc", "msg", "type"],
                    },
                }
            ]
        },
    )
    _headers: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    def model_post_init(self, context: Any, /) -> None:
        """Fill in the title, and Retry-After where repeating the request may help (RFC 9110, section 10.2.3)."""
        super().model_post_init(context)
        self.title = self.title or _phrase(self.status)
        if self.code in ("conflict", "database_unavailable", "timeout"):
            self._headers.setdefault("Retry-After", str(RETRY_AFTER))

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that belong to the response, such as ``Retry-After`` or ``Allow``; may be added to."""
        return self._headers


class ProblemResponse(Response):
    """A response whose status, headers and body are those of a `Problem`.

    Args:
        problem: what to tell.
        headers: more header fields; they win over those of the problem.
    """

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, *, headers: Mapping[str, str] | None = None) -> None:
        body = problem.model_dump(exclude_none=True)
        # a lone surrogate in the name of an unknown field has no UTF-8 form
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        super().__init__(content, problem.status, {**problem.headers, **(headers or {})})


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> ProblemResponse:
    """Return the response for a problem; the same as ``ProblemResponse(problem, headers=headers)``."""
    return ProblemResponse(problem, headers=headers)


class ProblemError(HTTPException):
    """An HTTPException that carries a whole `Problem`; rolls back like any other.

    Args:
        problem: what to tell; code, fields and constraint reach the client where problems are installed.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail, dict(problem.headers))
        self.problem = problem


def problem_for(exc: BaseException, metadata: MetaData | Iterable[MetaData] | None = None) -> Problem | None:
    """Return the problem that a database error means to a client, or None for every other error.

    The class of the error is told by SQLSTATE (PostgreSQL), errno (MariaDB, MySQL) or extended result code (SQLite),
    never by the text of the message.

    Args:
        exc: what SQLAlchemy, its pool or a driver called by it raised.
        metadata: looked up for the columns of a constraint where the database tells only its name.
    """
    cause = cause_of(exc)
    if cause is None:
        return None
    violation = violation_of(exc, cause, _as_list(metadata)) if cause.status in (409, 422) else None
    problem = Problem(
        status=cause.status,
        code=cause.code,
        detail=cause.detail,
        fields=list(violation.fields) if violation else [],
        constraint=violation.constraint if violation else None,
    )
    if isinstance(exc, DatabaseUnavailableError):
        problem.headers["Retry-After"] = str(exc.retry_after)
    return problem


def answer_to(
    request: Request, exc: BaseException, metadata: MetaData | Iterable[MetaData] | None = None
) -> Problem | None:
    """Return what `problem_for` does; a stale row is a 412 where the request has If-Match (RFC 9110, 13.1.1)."""
    problem = problem_for(exc, metadata)
    if problem is not None and isinstance(exc, StaleDataError) and "if-match" in request.headers:
        return Problem(status=412, code="precondition_failed", detail=problem.detail)
    return problem


def http_problem(exc: HTTPException | RequestValidationError) -> Problem:
    """Return the problem for an HTTPException or for a request that failed validation.

    Of the errors of a validation only ``loc``, ``msg`` and ``type`` are kept, never the input.
    """
    if isinstance(exc, ProblemError):
        return exc.problem
    if isinstance(exc, RequestValidationError):
        return _validation_problem(exc.errors())
    detail = cast("object", exc.detail)
    code = _CODES.get(exc.status_code) or _phrase(exc.status_code).lower().replace(" ", "_").replace("-", "_")
    if isinstance(detail, str):
        problem = Problem(status=exc.status_code, code=code, detail=detail)
    else:
        problem = Problem(status=exc.status_code, code=code, detail=json.dumps(detail, default=str))
    problem.headers.clear()
    problem.headers.update(exc.headers or {})
    return problem


class DatabaseErrorHandler:
    """The exception handler of an application: database errors become problems, all others are raised again.

    Args:
        metadata: see `problem_for`; more can be added to ``metadata`` later.
    """

    def __init__(self, *metadata: MetaData) -> None:
        self.metadata = list(metadata)

    async def __call__(self, request: Request, exc: Exception) -> Response:
        if request.scope["type"] != "http":
            raise exc
        problem = answer_to(request, exc, self.metadata)
        if problem is None:
            raise exc
        return ProblemResponse(problem)


async def database_error_handler(request: Request, exc: Exception) -> Response:
    """Answer a database error with its problem; raise every other error again.

    A stale row is a 412 where the request has ``If-Match`` (RFC 9110, section 13.1.1), else a 409.
    """
    return await DatabaseErrorHandler()(request, exc)


async def http_error_handler(request: Request, exc: Exception) -> Response:
    """Answer an HTTPException or a RequestValidationError with its problem; raise every other error again."""
    if request.scope["type"] != "http" or not isinstance(exc, (HTTPException, RequestValidationError)):
        raise exc
    problem = http_problem(exc)
    if problem.status < 200 or problem.status in _NO_BODY:
        return Response(status_code=problem.status, headers=problem.headers)
    return ProblemResponse(problem)


def install_problem_handlers(app: Starlette, *metadata: MetaData, http_errors: bool = False) -> None:
    """Let an application answer database errors with problems, leaving the handlers it has already.

    May be called again, for another database. Must be called before the application serves its first request.

    Args:
        app: a FastAPI or Starlette application.
        metadata: of the databases behind it, see `problem_for`.
        http_errors: turn HTTPException and RequestValidationError into problems too.

    Raises:
        RuntimeError: the application is running, and would not look at new handlers.
    """
    if _database_handler(app.exception_handlers) is None:
        _ensure_not_started(app)
    _add_database_handler(app.exception_handlers, metadata)
    if http_errors and app.exception_handlers.get(HTTPException) is not http_error_handler:
        _ensure_not_started(app)
        for kind in (HTTPException, RequestValidationError):
            if _is_fastapi_default(app.exception_handlers.get(kind)):
                app.exception_handlers[kind] = http_error_handler


def handle_database_errors(scope: Scope, *metadata: MetaData) -> None:
    """Let the application that serves a request answer database errors with problems, as of now.

    For code that runs within a request, such as a dependency; handlers that are there stay.

    Args:
        scope: the ASGI scope of the request.
        metadata: of the databases behind it, see `problem_for`.
    """
    handlers = scope.get("starlette.exception_handlers")
    if handlers is not None:
        _add_database_handler(handlers[0], metadata)


def problem_responses(*statuses: int, model: type[Problem] = Problem) -> dict[int | str, dict[str, Any]]:
    """Return the value of ``responses=`` that documents problems of these statuses in OpenAPI.

    Args:
        statuses: such as 404, 409, 422, 503.
        model: the problem, if it has members of its own.
    """
    schema = model.model_json_schema(mode="serialization")
    return {status: _documented(status, schema) for status in statuses}


def _documented(status: int, schema: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _phrase(status), "content": {MEDIA_TYPE: {"schema": schema}}}
    if status == 503:
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
        }
    return response


def _validation_problem(errors: Sequence[Any]) -> Problem:
    entries = [
        {"loc": [_short(part) for part in error["loc"]], "msg": _short(error["msg"]), "type": error["type"]}
        for error in errors[:_MAX_ERRORS]
    ]
    names = [".".join(part for part in entry["loc"][1:] if isinstance(part, str)) for entry in entries]
    fields = list(dict.fromkeys(name for name in names if name))
    if not entries:
        return Problem(status=422, code="validation_error", detail="The request is not valid.", fields=fields)
    where = " -> ".join(str(part) for part in entries[0]["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{where}: {entries[0]['msg']}{more}."
    return Problem(status=422, code="validation_error", detail=detail, fields=fields, errors=entries)


def _short(part: Any) -> Any:
    return part[:_MAX_LENGTH] if isinstance(part, str) else part


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _as_list(metadata: MetaData | Iterable[MetaData] | None) -> list[MetaData]:
    if metadata is None:
        return []
    return [metadata] if isinstance(metadata, MetaData) else list(metadata)


def _database_handler(handlers: Mapping[Any, Any]) -> DatabaseErrorHandler | None:
    found = (each.handler if isinstance(each, RolledBackFirst) else each for each in handlers.values())
    return next((handler for handler in found if isinstance(handler, DatabaseErrorHandler)), None)


def _add_database_handler(handlers: MutableMapping[Any, Any], metadata: Iterable[MetaData]) -> None:
    handler = _database_handler(handlers)
    if handler is None:
        handler = DatabaseErrorHandler()
        if sa_exc.SQLAlchemyError not in handlers:
            # misuse is never a problem; with a handler, it would reach the log as Starlette's RuntimeError
            handlers.setdefault(sa_exc.InvalidRequestError, None)
        for kind in _DATABASE_ERRORS:
            handlers.setdefault(kind, handler)
    handler.metadata.extend(each for each in metadata if each not in handler.metadata)


def _ensure_not_started(app: Starlette) -> None:
    if app.middleware_stack is not None:
        raise RuntimeError(
            "The application has started, and its exception handlers are fixed. Call install_problem_handlers(app) "
            "where the application is built."
        )


def _is_fastapi_default(handler: Any) -> bool:
    return handler is None or getattr(handler, "__module__", "") == "fastapi.exception_handlers"
