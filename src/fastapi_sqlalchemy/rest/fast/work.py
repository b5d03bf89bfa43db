"""What the short way runs, and how it says that the ordinary path has to."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from ..operations.rows import Row
from .statement import DriverStatement, Found, UnsuitableStatementError

__all__ = ["UNREADABLE", "GiveWay", "Statements", "Work", "processed"]

T = TypeVar("T")

Work: TypeAlias = Generator[tuple[sa.Select[Any], Mapping[str, Any]], Found, T]
"""Reads of one request: yields each statement with its parameters, is sent its rows, and returns what they make."""

UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)
"""What a processor raises for a stored value that is not of its column's type."""


class GiveWay(Exception):  # noqa: N818  # it is no error: the ordinary path does the work
    """The short way is not open to a request after all; nothing was answered yet."""


def processed(steps: Generator[tuple[sa.Select[Any], dict[str, Any]], list[Row], T]) -> Work[T]:
    """Return work that is sent rows as SQLAlchemy would give them."""
    request = next(steps)
    while True:
        found = yield request
        try:
            request = steps.send(found.processed())
        except StopIteration as end:
            result: T = end.value
            return result


class Statements:
    """The compiled statements of one dialect, for as long as the statements themselves live."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._known: WeakKeyDictionary[sa.Select[Any], DriverStatement | None] = WeakKeyDictionary()

    def of(self, statement: sa.Select[Any]) -> DriverStatement:
        """Return a statement in the terms of the driver, compiled once; raises `GiveWay` where it has none."""
        found = self._known.get(statement)
        if found is not None:
            return found
        if statement not in self._known:
            try:
                self._known[statement] = DriverStatement.of(statement, self._dialect)
            except UnsuitableStatementError:
                self._known[statement] = None
        found = self._known[statement]
        if found is None:
            raise GiveWay
        return found
