"""What the short way runs, and how it says that the ordinary path has to."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from ..operations.rows import Row
from .statement import DriverStatement, UnsuitableStatementError

__all__ = ["GiveWay", "Statements", "Work"]

T = TypeVar("T")

Work: TypeAlias = Generator[tuple[sa.Select[Any], Mapping[str, Any]], list[Row], T]
"""Reads of one request: yields each statement with its parameters, is sent the rows, and returns what they make."""


class GiveWay(Exception):  # noqa: N818  # it is no error: the ordinary path does the work
    """The short way is not open to a request after all; nothing was answered yet."""


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
                self._known[statement] = DriverStatement(statement, self._dialect)
            except UnsuitableStatementError:
                self._known[statement] = None
        found = self._known[statement]
        if found is None:
            raise GiveWay
        return found
