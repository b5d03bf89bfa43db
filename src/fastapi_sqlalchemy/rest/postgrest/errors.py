"""Errors in PostgREST's shape: ``code``, ``message``, ``details`` and ``hint``.

The codes are those of its reference (https://docs.postgrest.org/en/stable/references/errors.html): ``PGRST...`` for the
request itself, a SQLSTATE for what the database has to say.
"""

from __future__ import annotations

import json
from typing import Final

from starlette.responses import Response

from ...web.problems import Problem, ProblemError
from ..query.errors import InvalidValueError

__all__ = [
    "PostgrestProblem",
    "error_response",
    "failure",
    "invalid_value",
    "not_supported",
    "unknown_column",
    "unparsable",
]

_CODES: Final = {
    "unique_violation": "23505",
    "foreign_key_violation": "23503",
    "exclusion_violation": "23P01",
    "integrity_violation": "23000",
    "not_null_violation": "23502",
    "check_violation": "23514",
    "validation_error": "22P02",
    "conflict": "40001",
    "timeout": "57014",
    "database_unavailable": "PGRST001",
    "unauthorized": "PGRST301",
    "forbidden": "42501",
    "unsupported_media_type": "PGRST107",
    "content_too_large": "54000",
}
"""PostgREST's codes by those of problems; a code that has none stands for itself."""


class PostgrestProblem(Problem):
    """A problem whose ``code`` is PostgREST's."""

    details: str | None = None
    hint: str | None = None


def failure(
    status: int, code: str, message: str, *, details: str | None = None, hint: str | None = None
) -> ProblemError:
    """Return the error of a request; ``status`` is that of the response."""
    return ProblemError(PostgrestProblem(status=status, code=code, detail=message, details=details, hint=hint))


def unparsable(parameter: str, msg: str, details: str | None = None) -> ProblemError:
    """Return the error of a parameter that cannot be read."""
    return failure(400, "PGRST100", f"The parameter {parameter} cannot be read: {msg}.", details=details)


def not_supported(msg: str, hint: str | None = None) -> ProblemError:
    """Return the error of a part of PostgREST that is not here, or not on this database."""
    return failure(400, "PGRST127", msg, hint=hint)


def unknown_column(table: str, name: str, there: str) -> ProblemError:
    """Return the error of a column that is not there, or not for the caller."""
    return failure(400, "42703", f"column {table}.{name} does not exist", hint=f"There is: {there}.")


def invalid_value(table: str, name: str, error: InvalidValueError) -> ProblemError:
    """Return the error of a value that its column cannot be compared with."""
    return failure(400, "22P02", f"The value for {table}.{name} {error.msg}.")


def error_response(problem: Problem) -> Response:
    """Return the response for a problem; an answer to HEAD tells its code in the header Proxy-Status alone."""
    if isinstance(problem, PostgrestProblem):
        code, details, hint = problem.code, problem.details, problem.hint
    else:
        code, hint = _CODES.get(problem.code, problem.code), None
        details = ", ".join(problem.fields) or None
        if problem.errors:
            details = "; ".join(_shown(error) for error in problem.errors)
    body = {"code": code, "details": details, "hint": hint, "message": problem.detail}
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    status = 400 if problem.status == 422 else problem.status
    headers = {**problem.headers, "Proxy-Status": f"PostgREST; error={code}"}
    return Response(content, status, headers, media_type="application/json")


def _shown(error: dict[str, object]) -> str:
    loc = error.get("loc")
    place = [str(part) for part in loc] if isinstance(loc, (list, tuple)) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return f"{'.'.join(place)}: {error.get('msg')}"
