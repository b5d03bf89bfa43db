"""What is told of one execution: the statement, its time, its rows, and the line that it comes from."""

from __future__ import annotations

import os
import re
import weakref
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Engine

from .codeline import CodeLine

__all__ = ["Interval", "LazyLoad", "Statement", "database_name", "without_literals"]

_LITERAL = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|(?<![\w$:%?.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LazyLoad:
    """What an object loaded by itself when an attribute of it was read.

    ``chain`` are the attributes from the object that a query named down to the one that was read; ``parent`` tells
    objects apart; ``kind`` is "relationship", "deferred" (a column left out on purpose) or "expired".
    """

    model: type
    attribute: str
    kind: str
    parent: object
    chain: tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Statement:
    """One execution on a cursor.

    ``started`` is a reading of ``time.perf_counter()``; ``seconds`` is the time in the driver's execute, None while it
    runs; ``fetching`` are the seconds in which its rows were fetched. ``rows`` are those fetched by now, or those
    changed; None where the driver does not say. ``many`` says that ``parameters`` is a list of sets. ``error`` is the
    class of the error that it ended with. ``is_whole`` is False where a log kept only a part of it.
    """

    sql: str
    parameters: Any = field(repr=False)
    many: bool
    started: float
    line: CodeLine | None
    lazy: LazyLoad | None
    is_select: bool
    engine: weakref.ref[Engine] = field(repr=False)
    seconds: float | None = None
    fetching: float = 0.0
    rows: int | None = None
    error: str | None = None
    is_whole: bool = True

    @property
    def operation(self) -> str:
        """The first word: SELECT, INSERT, UPDATE, ..."""
        words = self.sql.split(None, 1)
        return words[0].upper() if words else ""

    @property
    def total(self) -> float:
        """Seconds in the driver by now: the execution and the fetching of rows."""
        return (self.seconds or 0.0) + self.fetching


@dataclass(frozen=True, slots=True)
class Interval:
    """Time that went to something else than a statement: a wait for a connection, or a commit.

    ``started`` is a reading of ``time.perf_counter()``.
    """

    kind: Literal["wait", "commit"]
    started: float
    seconds: float


def without_literals(statement: str) -> str:
    """The statement with every text and number that stands in it replaced by ``?``."""
    return _LITERAL.sub("?", statement)


def database_name(database: str | None) -> str:
    """What a database is called in figures and logs: its name, or that of its file."""
    return os.path.basename((database or "").partition("?")[0]) or "memory"
