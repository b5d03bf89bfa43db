"""How many rows an answer has, when each is counted as often as it is written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...web.problems import Problem, ProblemError

__all__ = ["AnswerSize", "TooLargeAnswerError"]


class TooLargeAnswerError(ProblemError):
    """An answer would have more rows than it may have."""


class AnswerSize:
    """Counts the rows of an answer: one that is related to several others is written below each of them.

    Relations that lead there and back multiply, so that few rows of the database make an answer of any size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # the objects are kept with their sizes: the id of one that is gone would be that of another
        self._sizes: dict[int, tuple[dict[str, Any], int]] = {}

    def add(self, item: dict[str, Any], related: Iterable[dict[str, Any]]) -> None:
        """Note the rows, with all that is below them, that are now below another one."""
        self._sizes[id(item)] = (item, self._of(item) + sum(self._of(other) for other in related))

    def check(self, items: Iterable[dict[str, Any]]) -> None:
        """Raise a 422 where these rows, with all that is below them, are too many."""
        self.check_number(sum(self._of(item) for item in items))

    def check_number(self, number: int) -> None:
        """Raise a 422 where these are too many rows."""
        if number > self.limit:
            detail = f"The answer has more than {self.limit} rows, related ones counted as often as they are in it."
            raise TooLargeAnswerError(Problem(status=422, code="validation_error", detail=detail))

    def _of(self, item: dict[str, Any]) -> int:
        found = self._sizes.get(id(item))
        return 1 if found is None else found[1]
