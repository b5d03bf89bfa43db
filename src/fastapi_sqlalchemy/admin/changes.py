"""The log of changes: who changed what and when, written down before the change is committed."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import sqlalchemy as sa

from ..sessions import Session
from .store import AdminStore, changes, now

__all__ = ["Change", "Changes", "Entry"]

logger = logging.getLogger("fastapi_sqlalchemy.admin")

_SHOWN = 200


@dataclass(slots=True)
class Change:
    """One change that is being made; what it did is filled in before it is done.

    ``fields`` has the old and the new value of each field that changed, as short texts.
    """

    account: str
    address: str
    action: str
    resource: str
    row: str = ""
    fields: dict[str, list[str | None]] = field(default_factory=dict[str, list[str | None]])

    def note(self, before: Mapping[str, str | None], after: Mapping[str, str | None]) -> None:
        """Keep the values that differ."""
        for name in dict.fromkeys((*before, *after)):
            old, new = before.get(name), after.get(name)
            if old != new:
                self.fields[name] = [_short(old), _short(new)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log; ``outcome`` is done, failed, or pending where the process died meanwhile."""

    at: dt.datetime
    account: str
    address: str
    action: str
    resource: str
    row: str
    fields: Mapping[str, Any]
    outcome: str


class Changes:
    """The changes of a store. No secret field is among their values."""

    def __init__(self, store: AdminStore) -> None:
        self.store = store

    @asynccontextmanager
    async def log(self, change: Change) -> AsyncGenerator[Change]:
        """Write a change down as pending, and at the end of the block what became of it."""
        values: dict[str, Any] = {
            "at": now(),
            "account": change.account[:150],
            "address": change.address[:100],
            "action": change.action,
            "resource": change.resource[:200],
            "row": _stored(change.row, 500),
            "fields": {},
            "outcome": "pending",
        }

        def insert(session: Session) -> int:
            result: Any = session.execute(sa.insert(changes).values(values))
            return int(result.inserted_primary_key[0])

        number = await self.store.run(insert)
        outcome = "failed"
        try:
            yield change
            outcome = "done"
        finally:
            after = {"outcome": outcome, "row": _stored(change.row, 500), "fields": change.fields}
            statement = sa.update(changes).where(changes.c.id == number).values(after)
            with anyio.CancelScope(shield=True):
                await self.store.run(lambda session: session.execute(statement))
            logger.info(
                "admin %s: %s %s %s %s %s",
                outcome,
                change.account,
                change.action,
                change.resource,
                change.row,
                ", ".join(change.fields),
            )

    async def latest(self, limit: int = 100) -> list[Entry]:
        """Return the newest changes first."""
        columns = [changes.c[name] for name in Entry.__slots__]
        statement = sa.select(*columns).order_by(changes.c.id.desc()).limit(limit)
        rows = await self.store.run(lambda session: session.execute(statement).all(), read_only=True)
        return [Entry(*row) for row in rows]


def _short(value: str | None) -> str | None:
    if value is None or len(value) <= _SHOWN:
        return None if value is None else _stored(value, _SHOWN)
    return f"{_stored(value, _SHOWN)}..."


def _stored(text: str, longest: int) -> str:
    """Text that every database takes: no NUL character, no half of a surrogate pair."""
    return text[:longest].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
