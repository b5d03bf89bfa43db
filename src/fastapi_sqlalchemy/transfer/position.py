"""How far a load has come: a row of a small table, changed in the same transaction as the rows that it counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from ..exceptions import ConfigurationError

__all__ = ["TABLE", "Position", "fingerprint"]

TABLE = "fastapi_sqlalchemy_load"
"""The name of the bookkeeping table, there while a load is at work or interrupted."""

_positions = sa.Table(
    TABLE,
    sa.MetaData(),
    sa.Column("target", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("records", sa.BigInteger(), nullable=False),
)
_START = 4096


def fingerprint(path: str) -> str:
    """What tells one file from another: its first two lines, the header and a row.

    Whatever follows may be corrected after a bad row, and does not make the file another.
    """
    with open(path, "rb") as file:
        start = file.readline(_START) + file.readline(_START)
    return hashlib.sha256(start).hexdigest()


@dataclass
class Position:
    """Where the load of one table stands; ``records`` of the file are in the table."""

    engine: sa.Engine
    target: str
    records: int = 0

    @classmethod
    def begin(cls, engine: sa.Engine, target: str, mark: str, *, resume: bool, restart: bool) -> Position:
        """Note that a load begins, or find out where it was interrupted.

        Raises `ConfigurationError` where a load of the table was interrupted and neither ``resume`` nor ``restart``
        says what to do, and where the file that is to be gone on with is another.
        """
        _create(engine)
        with engine.begin() as connection:
            columns = (_positions.c.fingerprint, _positions.c.records)
            found = connection.execute(sa.select(*columns).where(_positions.c.target == target)).one_or_none()
            if found is not None and restart:
                connection.execute(sa.delete(_positions).where(_positions.c.target == target))
                found = None
            if found is None:
                connection.execute(sa.insert(_positions).values(target=target, fingerprint=mark, records=0))
                return cls(engine, target)
        if not resume:
            raise ConfigurationError(
                f"A load of {target} was interrupted after {found.records} records, or is at work. Go on with --resume "
                "(resume=True), or keep those rows and begin at the start of the file with --restart (restart=True)."
            )
        if found.fingerprint != mark:
            raise ConfigurationError(
                f"The load of {target} that was interrupted read another file. Give the same one, or begin "
                "at its start with --restart (restart=True)."
            )
        return cls(engine, target, found.records)

    def advance(self, connection: sa.Connection, records: int) -> None:
        """Count further records, in the transaction that inserts them; locks out a second load of the same file."""
        changed = connection.execute(
            sa.update(_positions)
            .where(_positions.c.target == self.target, _positions.c.records == self.records)
            .values(records=self.records + records)
        )
        if changed.rowcount != 1:
            raise ConfigurationError(f"Another load of {self.target} is at work; wait for its end.")

    def end(self) -> None:
        """Forget the load, and drop the table where no other one needs it."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(_positions).where(_positions.c.target == self.target))
            if connection.scalar(sa.select(sa.func.count()).select_from(_positions)) == 0:
                _positions.drop(connection)


def _create(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        if not sa.inspect(connection).has_table(TABLE):
            connection.execute(sa.schema.CreateTable(_positions, if_not_exists=True))
