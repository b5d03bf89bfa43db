"""Enumerated types of PostgreSQL: what the models name and the database does not have yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

__all__ = ["EnumChange", "enum_changes", "native_enums"]


@dataclass(frozen=True)
class EnumChange:
    """A type of the models against that of the database; ``stored`` is None where there is no such type."""

    name: str
    schema: str | None
    wanted: tuple[str, ...]
    stored: tuple[str, ...] | None

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels that the database does not have."""
        return tuple(label for label in self.wanted if label not in (self.stored or ()))

    @property
    def left_over(self) -> tuple[str, ...]:
        """The labels that no model has any more; PostgreSQL cannot drop a label."""
        return tuple(label for label in self.stored or () if label not in self.wanted)

    def statements(self) -> Iterator[str]:
        """Yield what adds the missing labels, each at its place (PostgreSQL manual, "ALTER TYPE")."""
        known = list(self.stored or ())
        for place, label in enumerate(self.wanted):
            if label in known:
                continue
            before = next((item for item in self.wanted[place + 1 :] if item in known), None)
            where = f" BEFORE {_quoted(before)}" if before is not None else ""
            yield f"ALTER TYPE {self.identifier} ADD VALUE IF NOT EXISTS {_quoted(label)}{where}"
            known.append(label)

    @property
    def identifier(self) -> str:
        """The quoted name of the type."""
        parts = [part for part in (self.schema, self.name) if part is not None]
        return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)

    @property
    def create(self) -> str:
        """The statement that makes the type."""
        return f"CREATE TYPE {self.identifier} AS ENUM ({', '.join(map(_quoted, self.wanted))})"


def native_enums(metadata: sa.MetaData) -> dict[tuple[str | None, str], tuple[str, ...]]:
    """Return the labels of every named, native enum of the models by (schema, name)."""
    found: dict[tuple[str | None, str], tuple[str, ...]] = {}
    for table in metadata.tables.values():
        for column in table.columns:
            kind: Any = getattr(column.type, "item_type", column.type)  # that of an array
            if not isinstance(kind, sa.Enum):
                continue
            described: Any = kind
            if described.native_enum and described.name:
                found[described.schema, described.name] = tuple(described.enums)
    return found


def enum_changes(connection: sa.Connection, metadata: sa.MetaData) -> list[EnumChange]:
    """Return the enums of the models whose type on PostgreSQL is absent or has other labels."""
    if connection.dialect.name != "postgresql":
        return []
    statement = sa.text(
        "SELECT n.nspname, t.typname, e.enumlabel, n.nspname = current_schema()"
        " FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace"
        " ORDER BY e.enumsortorder"
    )
    stored: dict[tuple[str | None, str], list[str]] = {}
    for schema, name, label, is_default in connection.execute(statement):
        stored.setdefault((None if is_default else schema, name), []).append(label)
    found: list[EnumChange] = []
    for (schema, name), wanted in native_enums(metadata).items():
        labels = stored.get((schema, name))
        if labels is None or set(labels) != set(wanted):
            found.append(EnumChange(name, schema, wanted, None if labels is None else tuple(labels)))
    return found


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
