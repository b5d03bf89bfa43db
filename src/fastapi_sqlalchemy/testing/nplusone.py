"""``forbid_nplusone()``: a block that loads related objects one by one fails."""

from __future__ import annotations

from ..observe.codeline import CodeLine, line_of_function
from ..observe.nplusone import THRESHOLD, detect_nplusone
from ..observe.recorder import Recorder
from ..observe.statement import Statement
from ..scope import levels
from ..web.responses import Exchange

__all__ = ["forbid_nplusone"]


class forbid_nplusone(detect_nplusone):  # noqa: N801  # used like a function
    """Fail at the end of ``with`` or ``async with`` on N+1 loads, naming model, attribute, line and cure.

    Where a response is serialized no line of the application runs: then the line is that of the route's function.
    ``threshold`` is the number of objects from which it counts as N+1; ``everywhere`` looks at every thread instead of
    the current context. Raises `AssertionError`.
    """

    def __init__(self, *, threshold: int = THRESHOLD, everywhere: bool = False) -> None:
        super().__init__(threshold=threshold, everywhere=everywhere)
        self._recorder = _Recorder(everywhere=everywhere)

    def report(self) -> None:
        """Fail with what was found."""
        __tracebackhide__ = True
        if self.found:
            raise AssertionError("\n".join(map(str, self.found)))


class _Recorder(Recorder):
    def started(self, statement: Statement) -> None:
        if statement.line is None:
            statement.line = _line_of_route()
        super().started(statement)


def _line_of_route() -> CodeLine | None:
    """Where the function of the route is defined whose request is under way here."""
    requests = [level for level in levels() if isinstance(level, Exchange)]
    return line_of_function(requests[-1].endpoint) if requests else None
