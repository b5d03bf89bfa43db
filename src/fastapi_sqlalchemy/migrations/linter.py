"""Warns of steps that lock a table of PostgreSQL for long, or lose data."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Warning_", "lint"]


@dataclass(frozen=True)
class Warning_:  # noqa: N801  # a built-in has the plain name
    """One statement that is dangerous on a live database, why, and what to do."""

    statement: str
    reason: str


_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), reason)
    for pattern, reason in (
        (r"^DROP TABLE\b", "loses every row of the table; be sure that no running release reads it"),
        (
            r"^ALTER TABLE .* DROP COLUMN\b",
            "loses the data of the column; first release code that does not use it, then drop it",
        ),
        (
            r"^ALTER TABLE .* ADD COLUMN (?=.*\bNOT NULL\b)(?!.*\bDEFAULT\b)(?!.*\b(?:SERIAL|BIGSERIAL|GENERATED)\b)",
            "fails where the table has rows; give it a server default, or add it as NULL, fill it, then set NOT NULL",
        ),
        (
            r"^ALTER TABLE .* ALTER COLUMN .* SET NOT NULL\b",
            "reads the whole table under an exclusive lock; validate a CHECK (... IS NOT NULL) NOT VALID before it",
        ),
        (
            r"^ALTER TABLE .* ALTER COLUMN .* (?:SET DATA )?TYPE\b",
            "may write the whole table anew under an exclusive lock; add a new column and copy in batches",
        ),
        (
            r"^CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)",
            "blocks writes until the index is built; use postgresql_concurrently=True in an autocommit_block()",
        ),
        (
            r"^ALTER TABLE .* ADD CONSTRAINT .* (?:FOREIGN KEY|CHECK)\b(?!.*\bNOT VALID\b)",
            "checks every row under a lock; add it NOT VALID, then VALIDATE CONSTRAINT",
        ),
        (
            r"^ALTER TABLE .* ADD CONSTRAINT .* (?:UNIQUE|PRIMARY KEY)\b(?!.*\bUSING INDEX\b)",
            "builds an index under an exclusive lock; build a unique index concurrently, then add it USING INDEX",
        ),
        (r"^ALTER TABLE .* RENAME\b", "breaks the release that is running, which knows the old name"),
        (r"^TRUNCATE\b", "loses every row of the table"),
        (r"^(?:UPDATE|DELETE FROM)\b(?!.*\bWHERE\b)", "touches every row in one transaction; do it in batches"),
    )
)
_CREATED = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\S+)", re.IGNORECASE)
_VERSIONS = re.compile(r"\balembic_version\b")


def lint(sql: str) -> list[Warning_]:
    """Return what is dangerous in the statements of a migration; tables that it creates itself are empty and safe."""
    found: list[Warning_] = []
    created: set[str] = set()
    for raw in sql.split(";\n"):
        lines = [line for line in raw.splitlines() if not line.lstrip().startswith("--")]
        statement = " ".join(" ".join(lines).split())
        if not statement or _VERSIONS.search(statement):
            continue
        table = _CREATED.match(statement)
        if table is not None:
            created.add(table.group(1))
            continue
        for pattern, reason in _RULES:
            if pattern.search(statement) and not any(f" {name} " in f" {statement} " for name in created):
                found.append(Warning_(statement, reason))
                break
    return found
