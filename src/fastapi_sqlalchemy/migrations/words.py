"""Says in words what differs between the models and a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from .enums import enum_changes

__all__ = ["differences"]


def differences(connection: sa.Connection, metadata: sa.MetaData, options: dict[str, Any]) -> list[str]:
    """Return one sentence for each difference, none where models and database agree."""
    chosen = {name: options[name] for name in ("compare_type", "include_name", "render_as_batch") if name in options}
    migration = MigrationContext.configure(connection, opts={**chosen, "target_metadata": metadata})
    found = [sentence for item in compare_metadata(migration, metadata) for sentence in _said(item)]
    for change in enum_changes(connection, metadata):
        if change.stored is None:
            found.append(f"The type {change.name} is in the models and not in the database.")
        if change.stored is not None and change.missing:
            found.append(f"The type {change.name} does not have {', '.join(change.missing)} in the database.")
        if change.left_over:
            found.append(f"The type {change.name} has {', '.join(change.left_over)} in the database only.")
    return found


def _said(item: Any) -> Iterator[str]:
    if isinstance(item[0], str):
        yield _one(item)
    else:  # all changes of one column
        yield from map(_changed, item)


def _one(item: Any) -> str:
    kind = item[0]
    if kind in ("add_table", "remove_table"):
        return f"The table {item[1].fullname} is {_where(kind)}."
    if kind in ("add_column", "remove_column"):
        return f"The column {_table(item[1], item[2])}.{item[3].name} is {_where(kind)}."
    if kind in ("add_index", "remove_index"):
        names = ", ".join(str(getattr(column, "name", column)) for column in item[1].expressions)
        unique = "unique index" if item[1].unique else "index"
        return f"The {unique} {item[1].name} on {item[1].table.fullname} ({names}) is {_where(kind)}."
    if kind in ("add_constraint", "remove_constraint"):
        return f"The constraint {item[1].name or 'without a name'} of {item[1].table.fullname} is {_where(kind)}."
    if kind in ("add_fk", "remove_fk"):
        constraint = item[1]
        columns = ", ".join(constraint.column_keys)
        target = constraint.elements[0].target_fullname.rpartition(".")[0]
        return f"The foreign key from {constraint.parent.fullname} ({columns}) to {target} is {_where(kind)}."
    if kind in ("add_table_comment", "remove_table_comment"):
        return f"The comment of the table {item[1].fullname} differs."
    return f"{kind.replace('_', ' ').capitalize()}: {item[1:]!r}"


def _changed(change: Any) -> str:
    kind, schema, table, column, _details, stored, wanted = change
    where = f"The column {_table(schema, table)}.{column}"
    if kind == "modify_nullable":
        return f"{where} takes NULL in the {'database' if stored else 'models'} and not in the other."
    if kind == "modify_type":
        return f"{where} is {stored!r} in the database and {wanted!r} in the models."
    what = {"modify_default": "default", "modify_comment": "comment"}.get(kind, kind.removeprefix("modify_"))
    return f"{where} has another {what} in the database than in the models."


def _table(schema: str | None, name: str) -> str:
    return name if schema is None else f"{schema}.{name}"


def _where(kind: str) -> str:
    if kind.startswith("add_"):
        return "in the models and not in the database"
    return "in the database and not in the models"
