"""``assert_queries(n)``: a block runs so many statements, or the failure lists them with their lines."""

from __future__ import annotations

from types import TracebackType

from ..observe.recorder import Recorder
from ..observe.statement import Statement

__all__ = ["assert_queries"]

_CONTROL = frozenset({"BEGIN", "COMMIT", "RELEASE", "ROLLBACK", "SAVEPOINT"})
_SHOWN = 50
_WIDTH = 200


class assert_queries(Recorder):  # noqa: N801  # used like a function
    """Count the statements inside of ``with`` or ``async with``, and fail unless they are as many as expected.

    ``assert_queries(3)`` wants exactly three, ``assert_queries(at_most=3)`` three or fewer. Those of the current
    context count: the task, what it hands to threads, and requests through Starlette's TestClient; with ``everywhere``
    those of all threads. What only controls a transaction, such as SAVEPOINT, does not count.
    Raises `AssertionError` at the end, TypeError where it is not told what to expect.
    """

    def __init__(self, exactly: int | None = None, *, at_most: int | None = None, everywhere: bool = False) -> None:
        if (exactly is None) == (at_most is None):
            raise TypeError("assert_queries() takes a number, or at_most=, such as assert_queries(3).")
        super().__init__(everywhere=everywhere)
        self.exactly = exactly
        self.at_most = at_most

    def started(self, statement: Statement) -> None:
        """Note a statement, unless it controls a transaction."""
        if statement.operation not in _CONTROL:
            super().started(statement)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.stop()
        if error is None and not self._is_as_expected():
            raise AssertionError(self._failure())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, trace)

    def _is_as_expected(self) -> bool:
        return self.count == self.exactly if self.at_most is None else self.count <= self.at_most

    def _failure(self) -> str:
        expected, limit = (self.exactly, "") if self.at_most is None else (self.at_most, "at most ")
        ran = f"{self.count} {'was' if self.count == 1 else 'were'} run"
        lines = [f"{limit}{expected} {'query was' if expected == 1 else 'queries were'} expected, {ran}."]
        for number, statement in enumerate(self.statements[:_SHOWN], 1):
            sql = " ".join(statement.sql.split())
            lines.append(f"{number}. {sql if len(sql) <= _WIDTH else sql[:_WIDTH] + '...'}")
            lines.append(f"   {'from no line of your own' if statement.line is None else f'at {statement.line}'}")
        if self.count > _SHOWN:
            lines.append(f"and {self.count - _SHOWN} more")
        return "\n".join(lines)
