"""What a check says: a level, a sentence, and the cure where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from ...database import SQLAlchemy
from ...discovery import FoundDatabase
from ...engines import EngineSource
from ...web.startup import describe_failure

__all__ = ["Check", "Finding", "Level", "Patient", "error", "ok", "reason", "warning"]


class Level(StrEnum):
    """How bad it is; the exit code of the command is that of the worst."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"

    @property
    def exit_code(self) -> int:
        """0, 1 or 2."""
        return list(Level).index(self)


@dataclass(frozen=True)
class Finding:
    """One answer; ``cure`` says what to do about a warning or an error."""

    level: Level
    check: str
    sentence: str
    cure: str | None = None


@dataclass(frozen=True)
class Patient:
    """A database that is looked at, and the processes that are meant to serve it."""

    found: FoundDatabase
    workers: int

    @property
    def db(self) -> SQLAlchemy:
        """The database object."""
        return self.found.db

    @property
    def source(self) -> EngineSource:
        """What builds its engines."""
        return self.found.db.source


Check = Callable[[Patient, Connection], Iterable[Finding]]
"""Asks a database that answers."""


def ok(check: str, sentence: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, check, sentence)


def warning(check: str, sentence: str, cure: str) -> Finding:
    """It works, and may not for long."""
    return Finding(Level.WARNING, check, sentence, cure)


def error(check: str, sentence: str, cure: str) -> Finding:
    """It does not work, or loses data."""
    return Finding(Level.ERROR, check, sentence, cure)


def reason(failure: BaseException) -> str:
    """A failure in one line, to stand in a sentence."""
    return describe_failure(failure).rstrip(".?! ")
