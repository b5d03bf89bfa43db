"""How many rows each table has: exactly where that is cheap, about where it is not, and never for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from ..database import SQLAlchemy
from .reflect import Served

__all__ = ["RowCount", "RowCounts"]

STATEMENT_SECONDS = 1.0
TOTAL_SECONDS = 2.0
FRESH_SECONDS = 10.0
EXACT_ROWS = 100_000
VIEW_ROWS = 10_000

T = TypeVar("T")

# the default schema is the empty text
_ESTIMATES = {
    "postgresql": "SELECT CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname END, c.relname, c.reltuples "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f')",
    "mysql": "SELECT CASE WHEN table_schema = DATABASE() THEN '' ELSE table_schema END, table_name, table_rows "
    "FROM information_schema.tables WHERE table_rows IS NOT NULL",
}
_ESTIMATES["mariadb"] = _ESTIMATES["mysql"]


class RowCount(NamedTuple):
    """A number of rows; not ``exact``: about so many, ``at_least``: these and more."""

    rows: int
    exact: bool = True
    at_least: bool = False

    def __str__(self) -> str:
        mark = "" if self.exact else "> " if self.at_least else "≈ "
        return f"{mark}{self.rows:,}"


class RowCounts:
    """Counts the rows of what is served, on connections of its own with a short deadline.

    A figure is kept for some seconds; a table whose turn does not come in time, or that cannot be read, has none.
    """

    def __init__(self, url: URL, served: Sequence[Served]) -> None:
        self.db = SQLAlchemy(url, statement_timeout=STATEMENT_SECONDS, sqlite={"journal_mode": None})
        self._served = [item for item in served if item.resource is not None and item.problem is None]
        self._counts: dict[str, RowCount] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self) -> Mapping[str, RowCount]:
        """Return the counts by name."""
        async with self._lock:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                await self._read()
                self._read_at = time.monotonic()
            return dict(self._counts)

    async def _read(self) -> None:
        give_up = time.monotonic() + TOTAL_SECONDS
        guesses = await self._try(_estimates) or {}
        for item in sorted(self._served, key=lambda item: item.entry.is_view):
            guess = guesses.get((item.entry.schema or "", item.entry.name), -1)
            if guess > EXACT_ROWS:
                self._counts[item.name] = RowCount(guess, exact=False)
                continue
            if time.monotonic() > give_up:
                break
            count = await self._try(_count(item))
            if count is not None:
                self._counts[item.name] = count

    async def _try(self, work: Callable[[Session], T]) -> T | None:
        try:
            return await self.db.run(work, read_only=True, use_async=False)
        except sa_exc.SQLAlchemyError:
            return None


def _count(item: Served) -> Callable[[Session], RowCount]:
    """Count up to a bound, which costs no more than reading so many rows."""
    bound = VIEW_ROWS if item.entry.is_view else EXACT_ROWS
    assert item.resource is not None
    one: sa.Label[int] = sa.literal(1).label("one")
    some = sa.select(one).select_from(item.resource.table).limit(bound + 1).subquery()
    statement = sa.select(sa.func.count()).select_from(some)

    def work(session: Session) -> RowCount:
        rows = int(session.execute(statement).scalar_one())
        return RowCount(bound, exact=False, at_least=True) if rows > bound else RowCount(rows)

    return work


def _estimates(session: Session) -> dict[tuple[str, str], int]:
    """The planner's figures, by schema and name; SQLite has none."""
    statement = _ESTIMATES.get(session.get_bind().dialect.name)
    if statement is None:
        return {}
    return {(schema, name): int(rows) for schema, name, rows in session.execute(sa.text(statement))}
