"""What a migration has done, kept statement by statement where the database commits with every CREATE and ALTER.

On MariaDB and MySQL a revision is no transaction: what was done before it was killed, or failed, stays. A table of our
own notes each statement, so that the next run of the revision leaves out what is done. A CREATE, ALTER or DROP is noted
before it is sent, for it commits the note; what changes rows is noted in its own transaction.
Source: https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from ..exceptions import ConfigurationError
from ..tables import VERSION_TABLE
from ..web.startup import describe_failure

__all__ = ["Progress", "recorded", "unfinished"]

logger = logging.getLogger("fastapi_sqlalchemy.migrations")

_TABLE = "fastapi_sqlalchemy_migration"
_DELETE = f"DELETE FROM {_TABLE}"  # noqa: S608 - a name of our own
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (number INTEGER PRIMARY KEY, heads TEXT NOT NULL, "
    "statement LONGTEXT NOT NULL, done BOOLEAN NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
)
_COMMENT = re.compile(r"\s*(?:/\*.*?\*/|--[^\n]*\n|#[^\n]*\n)", re.DOTALL)
_SCHEMA = re.compile(
    r"(?:CREATE|ALTER|DROP|RENAME|TRUNCATE|GRANT|REVOKE|ANALYZE|OPTIMIZE)\b(?!\s+TEMPORARY)", re.IGNORECASE
)
_ROWS = re.compile(r"(?:INSERT|UPDATE|DELETE|REPLACE|LOAD|CALL)\b", re.IGNORECASE)
_MADE, _GONE = re.compile("CREATE|RENAME", re.IGNORECASE), re.compile("DROP|RENAME|CHANGE", re.IGNORECASE)
_IS_DONE = {
    1050: _MADE,  # there is such a table
    **dict.fromkeys((1022, 1060, 1061, 1068, 1826), re.compile("")),  # there is such a key or column
    **dict.fromkeys((1051, 1054, 1091, 1146), _GONE),  # there is none to drop or rename
}
"""By the number of its error, what a statement says that was done already."""


@dataclass(frozen=True)
class _Note:
    statement: str
    done: bool


class Progress:
    """The notes of the revision that runs on one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._heads = ""
        self._notes: dict[int, _Note] = {}
        self._number = 0
        self._sent: bool | None = None  # whether the statement that runs is one of the schema

    def begin(self, heads: Iterable[str]) -> None:
        """Begin the revision that follows ``heads``, behind what an earlier run has done of it."""
        self._ask(_CREATE)
        self._heads = ",".join(sorted(heads))
        kept = [row for row in _read(self._connection) if row[1] == self._heads]
        self._notes = {number: _Note(statement, done) for number, _, statement, done in kept}
        if not self._notes:
            self._ask(_DELETE)
        self._ask("COMMIT")

    def applied(self, *, heads: Iterable[str], **_: Any) -> None:
        """Begin the next revision: the one before is whole, and its number is in this transaction (an Alembic hook)."""
        if self._number or self._notes:
            self._ask(_DELETE)
        self._heads, self._notes, self._number = ",".join(sorted(heads)), {}, 0

    @property
    def done(self) -> list[str]:
        """The statements of the revision that an earlier run has done."""
        return [note.statement for _, note in sorted(self._notes.items()) if note.done]

    def failed(self) -> list[str]:
        """Forget the statement that raised, and return those before it, which stay."""
        self._ask(f"{_DELETE} WHERE NOT done")
        self._ask("COMMIT")
        stay = [statement for _, _, statement, _ in _read(self._connection)]
        if not stay:
            self.end()
        return stay

    def end(self) -> None:
        """Leave nothing behind."""
        self._ask(f"DROP TABLE IF EXISTS {_TABLE}")

    def before(
        self, _connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
    ) -> tuple[str, Any]:
        """Note a statement, or leave out one that is done (the event ``before_cursor_execute``)."""
        self._sent = _changes_schema(statement)
        if self._sent is None:
            return statement, parameters
        self._number += 1
        note = self._notes.get(self._number)
        if note is not None and note.done and note.statement != statement:
            raise ConfigurationError(
                f"The revision after {self._heads or 'base'} was not finished, and begins otherwise now. Done of it: "
                f"{_shown(self.done)}. Put these statements back to the beginning of the revision; or finish it by "
                "hand, then: fastapi-sqlalchemy db stamp."
            )
        if note is not None and note.statement == statement and (note.done or self._was_done(cursor, parameters, note)):
            self._sent = None
            if self._number == 1:
                logger.warning("A revision was not finished; it goes on. Done already: %s", _shown(self.done))
            return "DO 0", [()] if executemany else ()
        if self._sent:
            self._keep(statement, done=False)
        return statement, parameters

    def after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        """Note that a statement is done (the event ``after_cursor_execute``)."""
        if self._sent is not None:
            self._keep(statement, done=True)
            if self._sent:
                self._ask("COMMIT")

    def _was_done(self, cursor: Any, parameters: Any, note: _Note) -> bool:
        """Send again what was under way when an earlier run was killed; whether it is done now."""
        try:
            cursor.execute(note.statement, parameters)
        except Exception as error:
            says = _IS_DONE.get(next(iter(error.args), 0))
            if says is None or not says.search(note.statement):
                return False
        self._keep(note.statement, done=True)
        self._ask("COMMIT")
        return True

    def _keep(self, statement: str, *, done: bool) -> None:
        values = (self._number, self._heads, statement, done)
        self._ask(f"REPLACE INTO {_TABLE} (number, heads, statement, done) VALUES (%s, %s, %s, %s)", values)  # noqa: S608

    def _ask(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        # the driver's cursor: no event, and no transaction of SQLAlchemy's
        cursor: Any = self._connection.connection.cursor()
        try:
            cursor.execute(statement, values)
        finally:
            cursor.close()


@contextmanager
def recorded(connection: sa.Connection) -> Generator[Progress | None]:
    """Note what a migration does on this connection; None where a revision is a transaction.

    Raises `ConfigurationError` with what stays, where a revision fails that had done something.
    """
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield None
        return
    progress = Progress(connection)
    event.listen(connection, "before_cursor_execute", progress.before, retval=True)
    event.listen(connection, "after_cursor_execute", progress.after)
    try:
        yield progress
    except Exception as error:
        if connection.invalidated or connection.closed:
            raise
        if connection.in_transaction():
            connection.rollback()
        stay = progress.failed()
        if not stay or isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{describe_failure(error)} This database keeps what the revision did before: {_shown(stay)}. Mend the "
            "revision from there on and upgrade again: what is done is left out."
        ) from error
    finally:
        event.remove(connection, "before_cursor_execute", progress.before)
        event.remove(connection, "after_cursor_execute", progress.after)
    if connection.in_transaction():
        connection.commit()
    progress.end()


def unfinished(connection: sa.Connection) -> list[str]:
    """Return the statements that were done of a revision which is not finished."""
    if connection.dialect.name not in ("mysql", "mariadb") or not sa.inspect(connection).has_table(_TABLE):
        return []
    return [f"{statement}{'' if done else ' (perhaps)'}" for _, _, statement, done in _read(connection)]


def _read(connection: sa.Connection) -> list[tuple[int, str, str, bool]]:
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(f"SELECT number, heads, statement, done FROM {_TABLE} ORDER BY number")  # noqa: S608
        return [(int(number), str(heads), str(text), bool(done)) for number, heads, text, done in cursor.fetchall()]
    finally:
        cursor.close()


def _changes_schema(statement: str) -> bool | None:
    """Whether a statement commits by itself; None where it changes nothing, or only the number of the revision."""
    while found := _COMMENT.match(statement):
        statement = statement[found.end() :]
    statement = statement.lstrip()
    if VERSION_TABLE in statement:
        return None
    return True if _SCHEMA.match(statement) else False if _ROWS.match(statement) else None


def _shown(statements: Iterable[str]) -> str:
    short = (" ".join(statement.split()) for statement in statements)
    return "; ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in short)
