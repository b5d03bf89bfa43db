"""Positions in the stream of changes: how far a server has come, and how far a reader needs it to be.

PostgreSQL counts bytes of write-ahead log (manual, "System Administration Functions", "Recovery Control Functions");
MariaDB numbers the transactions of each replication domain (manual, "Global Transaction ID").
"""

from __future__ import annotations

import re
import threading
import time
from typing import Final, Protocol

__all__ = ["PIN", "UNKNOWN", "Positions", "Watermark", "positions_of"]

UNKNOWN: Final = "*"
"""Stands for a position that could not be found out: no replica is known to have reached it."""

PIN: Final = 60.0
"""Seconds for which the primary is read after a write whose position is unknown."""


class Positions(Protocol):
    """What one kind of server says about positions."""

    after_commit: str
    """SQL for the position of what this connection has committed."""

    state: str
    """SQL for a replica's position, its lag in seconds and its lag in bytes; what is not known is NULL."""

    def is_valid(self, position: str) -> bool:
        """Whether the text is a position."""
        ...

    def covers(self, reached: str, wanted: str) -> bool:
        """Whether a server that has come to ``reached`` has all of ``wanted``."""
        ...

    def later(self, one: str, other: str) -> str:
        """A position that covers both."""
        ...


class _PostgreSQL:
    after_commit: str = (
        "SELECT (CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn() "
        "ELSE pg_current_wal_lsn() END)::text"
    )
    # Without a WAL receiver there is nothing to compare with, and the age of the last transaction is all that is known.
    # One that has started anew tells of the beginning of a segment, behind what was replayed, until the primary writes.
    state: str = (
        "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text, "
        "(CASE WHEN NOT pg_is_in_recovery() THEN 0 "
        "WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() "
        "AND EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) THEN 0 "
        "ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END)::float8, "
        "(CASE WHEN pg_is_in_recovery() "
        "THEN GREATEST(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0) ELSE 0 END)::bigint"
    )

    def is_valid(self, position: str) -> bool:
        return re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", position) is not None

    def covers(self, reached: str, wanted: str) -> bool:
        return self._bytes(reached) >= self._bytes(wanted)

    def later(self, one: str, other: str) -> str:
        return max(one, other, key=self._bytes)

    @staticmethod
    def _bytes(position: str) -> int:
        high, _, low = position.partition("/")
        return (int(high, 16) << 32) | int(low, 16)


class _MariaDB:
    after_commit: str = "SELECT COALESCE(NULLIF(@@last_gtid, ''), @@gtid_current_pos)"
    state: str = "SELECT @@gtid_current_pos, NULL, NULL"

    def is_valid(self, position: str) -> bool:
        one = r"\d{1,10}-\d{1,10}-\d{1,20}"
        return re.fullmatch(rf"{one}(,{one}){{0,15}}", position) is not None

    def covers(self, reached: str, wanted: str) -> bool:
        have = self._domains(reached)
        return all(have.get(domain, (0, 0))[1] >= number for domain, (_, number) in self._domains(wanted).items())

    def later(self, one: str, other: str) -> str:
        found = self._domains(one)
        for domain, (server, number) in self._domains(other).items():
            if found.get(domain, (0, -1))[1] < number:
                found[domain] = (server, number)
        return ",".join(f"{domain}-{server}-{number}" for domain, (server, number) in sorted(found.items()))

    @staticmethod
    def _domains(position: str) -> dict[int, tuple[int, int]]:
        """By domain: the server that wrote last, and its transaction's number, which grows within a domain."""
        triples = [one.split("-") for one in position.split(",") if one]
        return {int(domain): (int(server), int(number)) for domain, server, number in triples}


def positions_of(dialect_name: str) -> Positions | None:
    """The positions of a kind of server; None where it is not known how to compare them."""
    if dialect_name == "postgresql":
        return _PostgreSQL()
    return _MariaDB() if dialect_name in ("mysql", "mariadb") else None


class Watermark:
    """How far a server must be for a reader to see what it has to: all that was written before in its context.

    ``written`` tells whether this context has written itself.
    """

    def __init__(self, positions: Positions | None) -> None:
        self.positions = positions
        self._lock = threading.Lock()
        self._pinned_until = 0.0
        self.position: str | None = None
        self.written = False

    @property
    def is_pinned(self) -> bool:
        """Whether only the primary will do, since a position is not known."""
        return self._pinned_until > time.monotonic()

    def require(self, position: str) -> None:
        """Let every read from now on see this position too; an unknown one is read at the primary for a while."""
        positions = self.positions
        if positions is None or not positions.is_valid(position):
            self._pinned_until = time.monotonic() + PIN
            return
        with self._lock:
            self.position = position if self.position is None else positions.later(self.position, position)

    def note_write(self, position: str) -> None:
        """The same, for a write of this context."""
        self.require(position)
        self.written = True

    def is_covered_by(self, reached: str | None) -> bool:
        """Whether a server at that position shows all that has to be seen."""
        if self.is_pinned:
            return False
        wanted = self.position
        if wanted is None:
            return True
        return reached is not None and self.positions is not None and self.positions.covers(reached, wanted)

    def __str__(self) -> str:
        return UNKNOWN if self.is_pinned else self.position or ""
