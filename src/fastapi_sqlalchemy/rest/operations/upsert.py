"""Insert or update by a unique key: one statement per batch, rows back in the order of the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from ...web.problems import Problem, ProblemError
from ..fields import Field
from ..narrowing import is_dict
from ..resource import Resource
from .matching import ASKED_AT_ONCE, alike, equal, may_be_alike
from .references import check_references
from .rows import Row, Shape, Target, connected_dialect, dialect_of, fetch
from .write import (
    Values,
    columns_of,
    create,
    exact,
    needs_unit_of_work,
    not_found,
    prepare_session,
    select_row,
    stored_together,
    update,
)

__all__ = ["conflict_targets", "insert_new", "upsert"]

_ATTEMPTS = 3
_PARAMETERS = 32_000
"""How many values one statement sends: SQLite takes 32,766 of them, asyncpg 32,767 and psycopg 65,535."""


def conflict_targets(resource: Resource) -> list[tuple[str, ...]]:
    """Return the sets of fields that can be named in ``on_conflict``: the key and every unique constraint."""
    table = resource.table
    if not isinstance(table, sa.Table):
        return []
    unique: list[Iterable[sa.Column[Any]]] = [
        *([table.primary_key.columns] if table.primary_key.columns else []),
        *(item.columns for item in table.constraints if isinstance(item, sa.UniqueConstraint)),
        *(item.columns for item in table.indexes if item.unique and not _is_partial(item)),
    ]
    found: list[tuple[str, ...]] = []
    for columns in unique:
        fields = [resource.field_of(column) for column in columns]
        names = tuple(item.name for item in fields if item is not None and item.readable)
        if names and len(names) == len(fields) and set(names) not in [set(other) for other in found]:
            found.append(names)
    return found


def upsert(session: Session, target: Target, bodies: Sequence[Values], conflict: Sequence[str]) -> list[Row]:
    """Insert each row, or update the one that has the same ``conflict`` fields; return them whole and in order."""
    prepare_session(session)
    resource = target.resource
    presets = target.ownership.presets()
    rows = [{**values, **presets} for values in bodies]
    for values in rows:
        replacement = target.call("before_upsert", session, values)
        if is_dict(replacement):
            values.clear()
            values.update(replacement)
    check_references(session, target, rows)
    shape = Shape.of(resource)
    keys: dict[int, Row] = {}
    latest: dict[Row, Row] = {}
    for numbers in _in_turn(resource, rows, conflict):
        batch = [rows[number] for number in numbers]
        existing = _existing(session, target, batch, conflict)
        if needs_unit_of_work(session, target, "upsert", batch) or _meets_any(session, target):
            stored = _one_by_one(session, target, batch, conflict, existing)
        else:
            stored = _in_batches(session, target, batch, conflict)
            if not target.ownership.is_plain:
                for row in stored:
                    select_row(session, target, shape.key(row))
        for number, row in zip(numbers, stored, strict=True):
            keys[number] = shape.key(row)
            latest[keys[number]] = row
    found = [latest[keys[number]] for number in range(len(rows))]
    if "after_upsert" in target.hooks:
        names = [item.name for item in Shape.of(resource).fields]
        for row, values in zip(found, rows, strict=True):
            target.call("after_upsert", session, dict(zip(names, row, strict=True)), values)
    return found


def insert_new(session: Session, target: Target, bodies: Sequence[Values], conflict: Sequence[str]) -> list[Row]:
    """Insert the rows whose ``conflict`` fields no row has yet, and return these, whole and in order."""
    prepare_session(session)
    presets = target.ownership.presets()
    rows = [{**values, **presets} for values in bodies]
    found: dict[int, Row] = {}
    for numbers in _in_turn(target.resource, rows, conflict):
        found.update(_insert_absent(session, target, {number: rows[number] for number in numbers}, conflict))
    return [found[number] for number in sorted(found)]


def _insert_absent(
    session: Session, target: Target, rows: dict[int, Values], conflict: Sequence[str]
) -> dict[int, Row]:
    for attempt in range(1, _ATTEMPTS + 1):
        new = _absent(session, target, rows, conflict)
        try:
            with session.begin_nested():
                created = create(session, target, [rows[number] for number in new]) if new else []
            return dict(zip(new, created, strict=True))
        except sa_exc.IntegrityError:  # another one inserted it meanwhile, or another constraint is broken
            if attempt == _ATTEMPTS:
                raise
    return {}


def _absent(session: Session, target: Target, rows: dict[int, Values], conflict: Sequence[str]) -> list[int]:
    """The rows whose ``conflict`` fields are not there; a locking read also sees what was committed meanwhile."""
    given = list(rows.values())
    fields = [*(target.resource.fields[name] for name in conflict), *target.resource.key]
    there = _keys_by_value(fetch(session, _stored(target, given, conflict), fields), conflict)
    met = _met(session, target, given, conflict, there)
    return [number for number, key in zip(rows, met, strict=True) if key is None]


def _stored(target: Target, rows: Sequence[Values], conflict: Sequence[str]) -> sa.Select[Any]:
    """What reads and locks the rows that have the ``conflict`` fields of these: these fields and the key."""
    resource = target.resource
    fields = [resource.fields[name] for name in conflict]
    columns = [item.column for item in (*fields, *resource.key)]
    among = _among(fields, rows, conflict)
    return sa.select(*columns).select_from(resource.table).where(among).with_for_update()


def _keys_by_value(rows: Iterable[Row], conflict: Sequence[str]) -> dict[Row, Row]:
    return {row[: len(conflict)]: row[len(conflict) :] for row in rows}


def _met(
    session: Session, target: Target, rows: Sequence[Values], conflict: Sequence[str], there: Mapping[Row, Row]
) -> list[Row | None]:
    """The key of the stored row that each of the given ones meets; ``there`` are those stored, by their values.

    A value that is not there exactly may be so for the database: where that can be, it compares them itself.
    """
    values = [_conflict_value(row, conflict) for row in rows]
    found = [there.get(value) for value in values]
    rest = [number for number, key in enumerate(found) if key is None]
    name = dialect_of(session).name
    if not rest or not there or (there.keys() <= set(values) and not may_be_alike({*values, *there}, name)):
        return found
    resource = target.resource
    columns = [resource.fields[item].column for item in conflict]
    fields = [*(resource.fields[item] for item in conflict), *resource.key]
    for start in range(0, len(rest), ASKED_AT_ONCE):
        some = rest[start : start + ASKED_AT_ONCE]
        told = [equal(columns, values[number]).label(f"met_{number}") for number in some]
        statement = _stored(target, [rows[number] for number in some], conflict).add_columns(*told)
        for row in fetch(session, statement, fields):
            for number, same in zip(some, row[len(fields) :], strict=True):
                if same:
                    found[number] = row[len(conflict) : len(fields)]
    return found


def _meets_any(session: Session, target: Target) -> bool:
    """Whether a statement would change a row that meets any unique constraint, and not say which."""
    dialect = connected_dialect(session)
    return dialect.name in ("mysql", "mariadb") and (target.cautious or not dialect.insert_returning)


def _in_batches(session: Session, target: Target, rows: Sequence[Values], conflict: Sequence[str]) -> list[Row]:
    found: dict[int, Row] = {}
    prepared = [columns_of(target.resource, values) for values in rows]
    for numbers in stored_together(target.resource, prepared):
        batch, values = [rows[number] for number in numbers], [prepared[number] for number in numbers]
        found.update(zip(numbers, _batch(session, target, batch, values, conflict), strict=True))
    return [found[number] for number in range(len(rows))]


def _batch(
    session: Session, target: Target, batch: Sequence[Values], values: list[Values], conflict: Sequence[str]
) -> list[Row]:
    """Store rows that one statement takes; ``values`` are theirs by the keys of the columns."""
    resource = target.resource
    shape = Shape.of(resource)
    statement, many = _statement(session, target, values, conflict)
    if connected_dialect(session).insert_returning and not target.cautious:
        stored = [exact(shape, tuple(row)) for row in session.execute(statement.returning(*shape.columns), many)]
    else:
        session.execute(statement, many)
        fields = [resource.fields[name] for name in conflict]
        among = _among(fields, batch, conflict)
        stored = fetch(session, sa.select(*shape.columns).select_from(resource.table).where(among), shape.fields)
    positions = [[item.name for item in shape.fields].index(name) for name in conflict]
    there = {tuple(row[position] for position in positions): shape.key(row) for row in stored}
    by_key = {shape.key(row): row for row in stored}
    met = [None if key is None else by_key.get(key) for key in _met(session, target, batch, conflict, there)]
    if None not in met:
        return [row for row in met if row is not None]
    if len(stored) < len(batch):
        raise not_found(resource)
    # The row met another unique constraint than the one that was named: MariaDB updates by any of them.
    detail = f"A row has a unique value of another row, outside of {', '.join(conflict)}."
    raise ProblemError(Problem(status=409, code="unique_violation", detail=detail))


def _statement(
    session: Session, target: Target, rows: list[Values], conflict: Sequence[str]
) -> tuple[Any, list[Values] | None]:
    """What inserts or updates rows that set the same columns, and the rows where it does not hold them itself."""
    resource = target.resource
    table: Any = resource.table
    name = dialect_of(session).name
    columns: list[Any] = [resource.fields[item].column for item in conflict]
    held = {column.key for column in columns}
    given = [key for key in rows[0] if key not in held and not table.c[key].primary_key]
    on_update = _on_update(table, given)
    criteria: Sequence[sa.ColumnElement[bool]] = ()
    statement: Any
    if name in ("mysql", "mariadb"):
        changes = {key: _inserted(table.c[key]) for key in given} | on_update
        statement = mysql.insert(table).on_duplicate_key_update(changes or {columns[0].key: columns[0]})
    else:
        insert: Any = postgresql.insert if name == "postgresql" else sqlite.insert
        statement = insert(table)
        changes = {key: statement.excluded[key] for key in given} | on_update
        criteria = target.visible
        where = sa.and_(*criteria) if criteria else None
        statement = statement.on_conflict_do_update(
            index_elements=columns, set_=changes or {columns[0].key: columns[0]}, where=where
        )
    if len(rows) == 1:
        return statement.values(rows[0]), None
    if _is_sent_with_many(table, on_update.values(), criteria):
        return statement, rows
    return statement.values(rows), None


def _is_sent_with_many(table: sa.Table, changes: Iterable[Any], criteria: Iterable[Any]) -> bool:
    """Whether SQLAlchemy's executemany takes the parameters that a statement has besides those of its rows.

    With one in what it sets, it is sent once for every row; one that is a list is refused; ``f(?)`` may be taken for
    VALUES; and ``owner = ?`` has a parameter ``owner_1``, which may be the name of a column.
    """
    if any(not isinstance(change, sa.ClauseElement) or _has_parameters(change) for change in changes):
        return False
    parts = [criterion for criterion in criteria if _has_parameters(criterion)]
    numbered = any(column.key.rpartition("_")[2].isdecimal() for column in table.columns)
    return all(_compares_with_value(part) for part in parts) and not (parts and numbered)


def _has_parameters(part: sa.ClauseElement) -> bool:
    return any(isinstance(element, sa.BindParameter) for element in sa.sql.visitors.iterate(part))


def _compares_with_value(criterion: Any) -> bool:
    """Whether a criterion is a column compared with one value, such as ``owner = ?``."""
    if not isinstance(criterion, sa.BinaryExpression) or not isinstance(criterion.left, sa.Column):
        return False
    value: Any = criterion.right
    return isinstance(value, sa.BindParameter) and value.unique and not (value.expanding or value.literal_execute)


def _inserted(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """MariaDB's VALUES(); SQLAlchemy's ``inserted`` escapes a percent sign in the name twice."""
    return sa.func.values(sa.column(column.name))


def _on_update(table: sa.Table, given: Sequence[str]) -> dict[str, Any]:
    """What ``onupdate`` sets, which ON CONFLICT does not do by itself."""
    found: dict[str, Any] = {}
    for column in table.columns:
        default: Any = column.onupdate
        if default is None or column.key in given:
            continue
        if default.is_scalar or default.is_clause_element:
            found[column.key] = default.arg
        elif default.is_callable:
            found[column.key] = default.arg(None)
    return found


def _one_by_one(
    session: Session, target: Target, rows: Sequence[Values], conflict: Sequence[str], existing: Sequence[Row | None]
) -> list[Row]:
    """Through the unit of work, for models whose Python side must see each change."""
    found: list[Row] = []
    quiet = Target(target.resource, target.ownership, type(target.hooks)(None), target.loop, target.cautious)
    for values, key in zip(rows, existing, strict=True):
        if key is None:
            found.extend(create(session, quiet, [values]))
        else:
            changes = {
                name: value
                for name, value in values.items()
                if name not in conflict and not _is_key(target.resource, name)
            }
            found.append(update(session, quiet, key, changes))
    return found


def _existing(session: Session, target: Target, rows: Sequence[Values], conflict: Sequence[str]) -> list[Row | None]:
    """Lock the rows that are there already and return the key of the one that each meets; another owner's is a 404."""
    resource = target.resource
    guarded = bool(target.ownership.own) or resource.deleted is not None or bool(resource.criteria)
    if not (guarded or needs_unit_of_work(session, target, "upsert", rows) or _meets_any(session, target)):
        return []
    fields = [resource.fields[name] for name in conflict]
    statement = _stored(target, rows, conflict)
    there = _keys_by_value(fetch(session, statement, fields), conflict)
    visible = {row[: len(fields)] for row in fetch(session, statement.where(*target.visible), fields)}
    hidden = set(there) - visible
    if hidden and resource.deleted is not None:
        gone = statement.where(resource.deleted.column.is_not(None))
        if hidden & {row[: len(fields)] for row in fetch(session, gone, fields)}:
            detail = f"A deleted row has the same {', '.join(conflict)}."
            raise ProblemError(Problem(status=409, code="unique_violation", detail=detail, fields=list(conflict)))
    if hidden:
        raise not_found(resource)
    return _met(session, target, rows, conflict, there)


def _among(fields: Sequence[Field], rows: Sequence[Values], conflict: Sequence[str]) -> sa.ColumnElement[bool]:
    values = [_conflict_value(row, conflict) for row in rows]
    if len(fields) == 1:
        return fields[0].column.in_([value[0] for value in values])
    return sa.tuple_(*(item.column for item in fields)).in_(values)


def _conflict_value(values: Values, conflict: Sequence[str]) -> Row:
    return tuple(values[name] for name in conflict)


def _in_turn(resource: Resource, rows: Sequence[Values], conflict: Sequence[str]) -> list[list[int]]:
    """Batches that one statement takes and in which no row meets another: one that comes again waits for the first."""
    batches: list[list[int]] = []
    times: dict[Row, int] = {}
    for place, values in enumerate(rows):
        missing = [name for name in conflict if values.get(name) is None]
        if missing:
            detail = f"An upsert by {', '.join(conflict)} needs a value of {', '.join(missing)}."
            raise ProblemError(Problem(status=422, code="validation_error", detail=detail, fields=missing))
        value = alike(_conflict_value(values, conflict))
        number = times.get(value, 0)
        times[value] = number + 1
        if number == len(batches):
            batches.append([])
        batches[number].append(place)
    size = max(1, _PARAMETERS // len(resource.table.columns))
    return [batch[start : start + size] for batch in batches for start in range(0, len(batch), size)]


def _is_key(resource: Resource, name: str) -> bool:
    item = resource.fields.get(name)
    return item is not None and item.primary_key


def _is_partial(index: sa.Index) -> bool:
    return any(index.dialect_kwargs.get(f"{name}_where") is not None for name in ("postgresql", "sqlite"))
