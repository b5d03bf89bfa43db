"""What the short way runs, and how it says that the ordinary path has to."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from ..operations.rows import Row
from .statement import DriverStatement, Found, UnsuitableStatementError

__all__ = ["COUNTED_AT_ONCE", "UNREADABLE", "GiveWay", "Statements", "Work", "processed", "total_of"]

T = TypeVar("T")

Work: TypeAlias = Generator[tuple[sa.Select[Any], Mapping[str, Any]], Found, T]
"""Reads of one request: yields each statement with its parameters, is sent its rows, and returns what they make."""

UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)
"""What a processor raises for a stored value that is not of its column's type."""


COUNTED_AT_ONCE = 100_000
"""The highest row number of a table of SQLite that is counted in the event loop."""


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


def total_of(counting: tuple[sa.Select[Any], Mapping[str, Any]], probe: sa.Select[Any] | None) -> Work[int]:
    """Count rows; where there is a ``probe`` (`Listing.probe`), only those of a table that is counted in no time."""
    if probe is not None:
        highest = yield probe, {}
        if highest.raw[0][0] is not None and highest.raw[0][0] > COUNTED_AT_ONCE:
            raise GiveWay
    counted = yield counting
    return int(counted.raw[0][0])


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
