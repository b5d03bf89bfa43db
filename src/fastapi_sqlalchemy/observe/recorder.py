"""Records the statements that engines execute: what, how long, how many rows, and from which line of the user."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from .listening import Observer
from .statement import Interval, Statement

__all__ = ["Recorder"]


class Recorder(Observer):
    """Records statements while it is entered, by ``with`` or ``async with``.

    By default those of the current context: the task and the tasks and threads that it hands work to. ``everywhere``
    records those of every thread. ``limit`` is the number of statements that are kept, and of intervals; ``count`` and
    ``seconds``, the time in the driver, tell of all, and ``spent_on`` sums the waits and commits, in seconds. With a
    limit of 0 no line is looked up and no parameter is kept.
    """

    def __init__(self, *, everywhere: bool = False, limit: int = 10_000) -> None:
        self.statements: list[Statement] = []
        self.intervals: list[Interval] = []
        self.count = 0
        self.seconds = 0.0
        self.spent_on = {"wait": 0.0, "commit": 0.0}
        self.everywhere = everywhere
        self.limit = limit
        self.line_from = 0.0 if limit else math.inf

    def started(self, statement: Statement) -> None:
        """Note a statement that starts now."""
        self.count += 1
        if len(self.statements) < self.limit:
            self.statements.append(statement)

    def executed(self, statement: Statement) -> None:
        """Add its time."""
        self.seconds += statement.seconds or 0.0

    def finished(self, statement: Statement) -> None:
        """Add the time that its rows took."""
        self.seconds += statement.fetching

    def spent(self, interval: Interval) -> None:
        """Note a wait or a commit."""
        self.spent_on[interval.kind] += interval.seconds
        if len(self.intervals) < self.limit:
            self.intervals.append(interval)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
