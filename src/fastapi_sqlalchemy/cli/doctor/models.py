"""The models by themselves: keys, and indexes that foreign keys need."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from .finding import Finding, Patient, ok, warning

__all__ = ["check_models"]

_INDEXES_FOREIGN_KEYS = frozenset({"mysql", "mariadb"})


def check_models(patient: Patient) -> Iterator[Finding]:
    """Find tables without a primary key, and foreign keys that a delete of the row they name has to search for."""
    tables = patient.db.metadata.sorted_tables
    if not tables:
        yield warning(
            "models",
            "There are no models.",
            'Import them where it is made, or list their modules: [tool.fastapi-sqlalchemy] models = ["app.models"].',
        )
        return
    keyless = [table.fullname for table in tables if not table.primary_key.columns]
    if keyless:
        yield warning(
            "models",
            f"Without a primary key: {', '.join(keyless)}.",
            "Give each a primary key: rows cannot be told apart, nor changed one by one.",
        )
    bare = [] if patient.source.dialect_name in _INDEXES_FOREIGN_KEYS else list(_without_index(tables))
    if bare:
        yield warning(
            "models",
            f"Foreign keys without an index: {', '.join(bare)}.",
            "Add index=True: joins, and deletes of the rows that they name, read the whole table.",
        )
    if not keyless and not bare:
        yield ok("models", f"Tables: {len(tables)}; each has a primary key, each foreign key an index.")


def _without_index(tables: list[sa.Table]) -> Iterator[str]:
    for table in tables:
        starts = [list(index.columns.keys()) for index in table.indexes]
        starts += [list(table.primary_key.columns.keys())]
        starts += [list(found.columns.keys()) for found in table.constraints if isinstance(found, sa.UniqueConstraint)]
        for constraint in table.foreign_key_constraints:
            names = set(constraint.column_keys)
            if not any(set(start[: len(names)]) == names for start in starts):
                yield f"{table.fullname}.{'+'.join(constraint.column_keys)}"
