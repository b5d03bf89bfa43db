"""Finds N+1 loads: one attribute of many objects, loaded by one statement each, from one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from .codeline import CodeLine
from .recorder import Recorder
from .statement import LazyLoad, Statement

__all__ = ["THRESHOLD", "NPlusOne", "NPlusOneWarning", "detect_nplusone", "find_nplusone", "warn_of"]

THRESHOLD = 2
"""Objects whose attribute was loaded one by one from the same line: from this number on it counts as N+1."""


class NPlusOneWarning(UserWarning):
    """Related objects were loaded one by one."""


@dataclass(frozen=True, slots=True)
class NPlusOne:
    """One finding: ``count`` objects of ``model`` had their ``attribute`` loaded one by one from ``line``.

    ``cure`` is what to write instead; ``line`` is None where no line of the user's own was on the stack.
    """

    model: str
    attribute: str
    count: int
    line: CodeLine | None
    cure: str

    def __str__(self) -> str:
        place = "from no line of your own (a response that is serialized?)" if self.line is None else f"at {self.line}"
        what = (
            f"N+1: {self.model}.{self.attribute} was loaded by {self.count} statements, one for each object, {place}."
        )
        return f"{what} {self.cure}"


def find_nplusone(
    statements: Iterable[Statement], *, threshold: int = THRESHOLD, elsewhere: CodeLine | None = None
) -> list[NPlusOne]:
    """Group the lazy loads among ``statements`` by attribute and line; return those of ``threshold`` objects or more.

    ``elsewhere`` stands in for the line where no line of the user's own was on the stack.
    """
    groups: dict[tuple[type, str, str, CodeLine | None], tuple[set[object], LazyLoad]] = {}
    for statement in statements:
        load = statement.lazy
        if load is not None:
            key = (load.model, load.attribute, load.kind, statement.line or elsewhere)
            groups.setdefault(key, (set(), load))[0].add(load.parent)
    return [
        NPlusOne(model.__name__, attribute, len(parents), line, cure_of(load))
        for (model, attribute, _, line), (parents, load) in groups.items()
        if len(parents) >= threshold
    ]


def warn_of(findings: Iterable[NPlusOne]) -> None:
    """Warn of each finding at its line."""
    for finding in findings:
        line = finding.line or CodeLine("unknown", 1, "unknown")
        warnings.warn_explicit(str(finding), NPlusOneWarning, line.path, line.number)


def cure_of(load: LazyLoad) -> str:
    """What to write so that the attribute comes with the first statement.

    SQLAlchemy, "Relationship Loading Techniques" and "Column Loading Options": ``selectinload()`` for collections,
    ``joinedload()`` for a single object, ``undefer()`` for a deferred column.
    """
    if load.kind == "expired":
        return (
            "The attributes had expired: leave expire_on_commit at False, do not call expire() or expire_all() before, "
            "or read the objects again with one select()."
        )
    options = ".".join(_option(attribute, load.kind) for attribute in load.chain)
    root = load.chain[0].parent.class_.__name__
    return f"Load it with the objects: select({root}).options({options})."


def _option(attribute: Any, kind: str) -> str:
    name = f"{attribute.parent.class_.__name__}.{attribute.key}"
    if not hasattr(attribute, "direction"):
        return f"undefer({name})"
    return f"{'selectinload' if attribute.uselist else 'joinedload'}({name})"


class detect_nplusone:  # noqa: N801  # used like a function
    """Warn of N+1 loads inside of ``with`` or ``async with`` when it ends (`NPlusOneWarning`, at the user's line).

    ``threshold`` is the number of objects from which it warns,
    ``everywhere`` looks at every thread instead of the current context. ``found`` lists the findings afterwards.
    """

    def __init__(self, *, threshold: int = THRESHOLD, everywhere: bool = False) -> None:
        self.found: list[NPlusOne] = []
        self.threshold = threshold
        self._recorder = Recorder(everywhere=everywhere)

    def __enter__(self) -> Self:
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._recorder.stop()
        self.found = find_nplusone(self._recorder.statements, threshold=self.threshold)
        if error is None:
            self.report()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def report(self) -> None:
        """Say what was found."""
        warn_of(self.found)
