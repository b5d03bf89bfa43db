"""The last requests with their statements, as many as fit into a bounded memory."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..rest.narrowing import is_dict, is_items
from .nplusone import NPlusOne
from .recorder import Recorder
from .statement import Interval, Statement

__all__ = ["MAX_STATEMENTS", "RequestLog", "SeenRequest"]

MAX_STATEMENTS = 500
"""Statements that are kept of one request; it counts on."""

_MAX_TEXT = 20_000
_MAX_PARAMETERS = 65_536


@dataclass(slots=True, eq=False)
class SeenRequest:
    """A request that is over, with what it asked of databases.

    ``number`` tells it apart in this process, ``started`` is a reading of ``time.perf_counter()``, ``status`` is None
    where there was no response. ``count`` and ``database_seconds`` are those of all its statements; ``statements`` are
    the first of them. ``spent_on`` are the seconds of waiting for connections and of commits.
    """

    number: int
    method: str
    path: str
    at: dt.datetime
    started: float
    seconds: float
    status: int | None
    count: int
    database_seconds: float
    spent_on: Mapping[str, float]
    statements: list[Statement] = field(repr=False)
    intervals: list[Interval] = field(repr=False)
    findings: list[NPlusOne]

    def duplicates(self) -> dict[int, int]:
        """The places, from 0, of statements that ran before with the same parameters, each with its first place."""
        first: dict[tuple[str, str], int] = {}
        found: dict[int, int] = {}
        for place, statement in enumerate(self.statements):
            if statement.is_whole:
                known = first.setdefault((statement.sql, repr(statement.parameters)), place)
                if known != place:
                    found[place] = known
        return found


class RequestLog:
    """Keeps the last ``keep`` requests; an older one makes room."""

    def __init__(self, keep: int) -> None:
        self._seen: deque[SeenRequest] = deque(maxlen=keep)
        self._numbers = itertools.count(1)

    def add(
        self,
        recorder: Recorder,
        findings: list[NPlusOne],
        *,
        method: str,
        path: str,
        status: int | None,
        started: float,
        seconds: float,
    ) -> SeenRequest:
        """Keep what a recorder saw of a request."""
        seen = SeenRequest(
            number=next(self._numbers),
            method=method,
            path=path[:_MAX_TEXT],
            at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds),
            started=started,
            seconds=seconds,
            status=status,
            count=recorder.count,
            database_seconds=recorder.seconds,
            spent_on=dict(recorder.spent_on),
            statements=[_bounded(statement) for statement in recorder.statements],
            intervals=list(recorder.intervals),
            findings=findings,
        )
        self._seen.append(seen)
        return seen

    def find(self, number: int) -> SeenRequest | None:
        """The request of that number, while it is kept."""
        return next((seen for seen in self if seen.number == number), None)

    def __iter__(self) -> Iterator[SeenRequest]:
        """The newest first."""
        return iter(list(self._seen)[::-1])

    def __len__(self) -> int:
        return len(self._seen)


def _bounded(statement: Statement) -> Statement:
    """The statement without what would fill the memory."""
    parameters = statement.parameters
    if statement.many:
        parameters = parameters[:1]
    if len(statement.sql) > _MAX_TEXT or _size(parameters) > _MAX_PARAMETERS:
        return replace(statement, sql=statement.sql[:_MAX_TEXT], parameters=None, is_whole=False)
    return replace(statement, parameters=parameters)


def _size(value: Any) -> int:
    """Bytes of a value and of what stands in it."""
    if is_dict(value):
        return sum(_size(item) for item in value.values())
    if is_items(value):
        return sum(_size(item) for item in value)
    return sys.getsizeof(value)
