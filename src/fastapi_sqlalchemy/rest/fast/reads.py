"""Chooses whether the reads of a request may go past SQLAlchemy's session, and on which connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from ...database import SQLAlchemy
from ...engines.listeners import is_observed
from ...sessions import are_sessions_observed
from ..operations.rows import Row
from .server import ServerReads
from .sqlite import SQLiteReads
from .statement import DriverStatement
from .work import Work

__all__ = ["Reads", "ShortWay"]

T = TypeVar("T")

_KEY = "_fastapi_sqlalchemy_reads"


class Reads(Protocol):
    """Runs reads on the connections of one engine."""

    dialect: sa.Dialect

    async def run(self, work: Work[T], *, snapshot: bool = False) -> T:
        """Run the statements of ``work``; raises `GiveWay` where the ordinary path has to do it.

        ``snapshot`` lets them see one state of the database where the ordinary path does.
        """
        ...

    async def write(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement that changes rows, commit it and return the rows that it gives back.

        Raises `GiveWay` where nothing was changed and the ordinary path has to do it.
        """
        ...


class ShortWay:
    """The short way to the rows of one router.

    It is open while nobody can tell the difference: no session of the request is in use, nobody listens to the engine,
    its pool or to sessions, nothing is echoed, the engine is the package's own, and the database is not isolated for a
    test. Each of these is asked anew for every request.
    """

    def __init__(self, db: SQLAlchemy, use_async: bool | None) -> None:
        self._db = db
        self._use_async = use_async

    def open(self, *, alone: bool = False) -> Reads | None:
        """Return what runs the statements of the current request, or None where the ordinary path has to.

        ``alone`` is asked by who commits: there may be no scope around that has a say in it.
        """
        binding = self._db.unused_binding(alone=alone)
        if binding is None or not binding.is_plain or are_sessions_observed(writes=alone):
            return None
        engine = binding.source.direct_engine(self._use_async)
        if engine is None or is_observed(engine):
            return None
        kept = vars(engine)
        found: Reads | None = kept.get(_KEY)
        if found is None:
            timeout = binding.source.config.statement_timeout
            found = kept[_KEY] = SQLiteReads(engine, timeout) if engine.name == "sqlite" else ServerReads(engine)
        return found
