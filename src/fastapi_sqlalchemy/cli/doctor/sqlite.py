"""SQLite: the pragmas of a connection, and whether the file is sound."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from ...engines.sqlite import is_memory_url
from .finding import Finding, Patient, error, ok, warning

__all__ = ["CHECKS"]

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def _pragma(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"PRAGMA {name}").scalar())


def _check_pragmas(patient: Patient, connection: Connection) -> Iterator[Finding]:
    if _pragma(connection, "foreign_keys") == "1":
        yield ok("foreign_keys", "Foreign keys are enforced.")
    else:
        yield error(
            "foreign_keys",
            "Foreign keys are not enforced: rows may name others that are not there.",
            'Leave sqlite={"foreign_keys": ...} at its default.',
        )
    mode = _pragma(connection, "journal_mode")
    if mode == "wal" or is_memory_url(patient.source.url):
        yield ok("journal_mode", f"The journal is {mode}.")
    else:
        yield warning(
            "journal_mode",
            f"The journal is {mode}: a writer keeps every reader waiting.",
            'Leave sqlite={"journal_mode": ...} at its default, wal, and the file on a disk of this machine.',
        )
    level = _SYNCHRONOUS[int(_pragma(connection, "synchronous"))]
    if level == "OFF" and not is_memory_url(patient.source.url):
        yield error(
            "synchronous",
            "synchronous is OFF: the file may be damaged when the machine loses power.",
            "Take PRAGMA synchronous = OFF out.",
        )
    else:
        yield ok("synchronous", f"synchronous is {level}.")
    patience = int(_pragma(connection, "busy_timeout")) / 1000
    if patience > 0:
        yield ok("busy_timeout", f"A writer waits {patience:g} s for another one.")
    else:
        yield warning(
            "busy_timeout",
            "A writer does not wait for another one: requests fail with 'database is locked'.",
            'Leave sqlite={"busy_timeout": ...} at its 5 seconds.',
        )


def _check_integrity(_patient: Patient, connection: Connection) -> Iterator[Finding]:
    told = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
    if told != ["ok"]:
        yield error(
            "integrity",
            f"The file is damaged: {'; '.join(told)}.",
            "Restore a backup, or save what can be read with sqlite3's .recover.",
        )
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        tables = sorted({str(row[0]) for row in broken})
        yield error(
            "integrity",
            f"{len(broken)} rows name rows that are not there, in {', '.join(tables)}.",
            "PRAGMA foreign_key_check lists them: delete them, or add what they name.",
        )
        return
    yield ok("integrity", "The file is sound, and every foreign key leads to a row.")


CHECKS = (_check_pragmas, _check_integrity)
