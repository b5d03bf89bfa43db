"""Problems as the clients of a dialect read them: a ``message`` to show, and ``errors`` by field for a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from starlette.responses import Response

from ...web.problems import Problem, ProblemResponse
from ..route import CRUDRoute

__all__ = ["DialectProblemDetails", "DialectRoute"]


class DialectProblemDetails(Problem):
    """An error as RFC 9457 has it, with the members that react-admin and Refine look for."""

    message: str = Field(description="The same as `detail`.")
    errors: dict[str, Any] | None = Field(  # type: ignore[assignment]
        default=None,
        description="What is wrong, by the name of the field or parameter; `root` has the whole for a notification.",
    )


class DialectRoute(CRUDRoute):
    """A generated route whose errors have these members."""

    def response(self, problem: Problem) -> Response:
        return _DialectProblemResponse(problem)


class _DialectProblemResponse(ProblemResponse):
    """A response whose body is that of a `Problem` with these members.

    Source: react-admin, HttpError of `fetchJson` (`message`) and server-side validation (`errors`, whose `root` and
    in it `serverError` is shown as a notification).
    """

    def __init__(self, problem: Problem, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem, headers=headers)
        body = problem.model_dump(exclude_none=True)
        body["message"] = problem.detail
        errors = _by_field(problem)
        if errors:
            body["errors"] = {**errors, "root": {"serverError": problem.detail}}
        self.body = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        self.headers["content-length"] = str(len(self.body))


def _by_field(problem: Problem) -> dict[str, str]:
    """What is wrong with each field, as far as that is told."""
    found: dict[str, str] = {}
    for error in problem.errors or ():
        name = ".".join(str(part) for part in error["loc"][1:])
        if name:
            found.setdefault(name, str(error["msg"]))
    if not found and problem.status in (409, 422):
        found = dict.fromkeys(problem.fields, problem.detail)
    return found
