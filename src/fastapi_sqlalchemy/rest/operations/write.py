"""Create, update, replace and delete of rows: one statement where the database allows it.

The ORM's unit of work is used where Python-side behaviour asks for it: hooks, validators, listeners, a
``version_id_col``, joined inheritance, cascades.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Session

from ...sessions import Session as ScopedSession
from ...web.problems import Problem, ProblemError
from ..etag import matches
from ..fields import Field
from ..narrowing import is_dict, is_table
from ..resource import Resource
from .references import check_references
from .rows import Row, Shape, Target, connected_dialect, dialect_of, execute, fetch, key_criteria

__all__ = [
    "columns_of",
    "create",
    "delete",
    "deletes_entities",
    "exact",
    "keep_owner",
    "needs_unit_of_work",
    "not_found",
    "replace",
    "select_row",
    "stored_together",
    "update",
]

Values = dict[str, Any]
Check = Callable[[str], bool]


def not_found(resource: Resource) -> ProblemError:
    """Return the error for a row that is not there, or not the caller's."""
    return ProblemError(Problem(status=404, code="not_found", detail=f"There is no such {resource.name}."))


def not_stored(resource: Resource) -> ProblemError:
    """Return the error for a new row that the database leaves out without one (``ON CONFLICT IGNORE``, a trigger)."""
    detail = f"The database left out the new {resource.name}: a constraint or a trigger of its table ignores it."
    return ProblemError(Problem(status=409, code="conflict", detail=detail))


def precondition_failed() -> ProblemError:
    """Return the error for an If-Match that does not hold (RFC 9110, section 13.1.1)."""
    detail = "The row has changed since you read it. Read it again, then repeat the change with its new ETag."
    return ProblemError(Problem(status=412, code="precondition_failed", detail=detail))


def select_row(session: Session, target: Target, key: Sequence[Any], *, lock: bool = False) -> Row:
    """Return one visible row in its whole shape; raises a 404 problem where there is none."""
    shape = Shape.of(target.resource)
    if not lock and target.ownership.is_open:
        parameters = {f"key_{number}": value for number, value in enumerate(key)}
        rows = fetch(session, shape.by_key, shape.fields, parameters)
        if not rows:
            raise not_found(target.resource)
        return rows[0]
    statement = (
        sa.select(*shape.columns)
        .select_from(target.resource.table)
        .where(*key_criteria(target.resource, key), *target.visible)
    )
    rows = fetch(session, statement.with_for_update() if lock else statement, shape.fields)
    if not rows:
        raise not_found(target.resource)
    return rows[0]


def create(session: Session, target: Target, bodies: Sequence[Values]) -> list[Row]:
    """Insert rows and return them, whole and in order. All of them or none."""
    prepare_session(session)
    presets = target.ownership.presets()
    rows = [{**values, **presets} for values in bodies]
    for values in rows:
        replacement = target.call("before_create", session, values)
        if is_dict(replacement):
            values.clear()
            values.update(replacement)
    check_references(session, target, rows)
    if needs_unit_of_work(session, target, "create", rows):
        created = _create_entities(session, target, rows)
    else:
        created = _insert(session, target.resource, rows)
        created = _after_rows(session, target, "after_create", created, rows)
    if not target.ownership.is_plain:
        for row in created:
            select_row(session, target, Shape.of(target.resource).key(row))
    return created


def update(session: Session, target: Target, key: Sequence[Any], values: Values, if_match: str | None = None) -> Row:
    """Change the fields given of one row and return it whole."""
    return _change(session, target, key, values, if_match, "update")


def replace(session: Session, target: Target, key: Sequence[Any], values: Values, if_match: str | None = None) -> Row:
    """Set every field of one row: those not given to their default, or to null. Return it whole."""
    owned = target.ownership.presets()
    complete = {
        name: values.get(name, _fallback(item))
        for name, item in target.resource.updatable.items()
        if name in values or name not in owned
    }
    extra = {name: value for name, value in values.items() if name not in complete}
    return _change(session, target, key, {**complete, **extra}, if_match, "replace")


def delete(session: Session, target: Target, key: Sequence[Any], if_match: str | None = None) -> Row:
    """Delete one row (or mark it as deleted) and return it as it was."""
    prepare_session(session)
    resource = target.resource
    shape = Shape.of(resource)
    if deletes_entities(session, target):
        return _delete_entity(session, target, key, if_match)
    current: Row | None = None
    table = _table(resource)
    criteria = [*key_criteria(resource, key), *target.visible]
    hooked = target.hooks.around("delete")
    returning = connected_dialect(session).delete_returning and not target.cautious
    if if_match is not None or hooked or resource.deleted is not None or not returning:
        current = select_row(session, target, key, lock=True)
        if if_match is not None:
            _check_match(shape, current, if_match)
    if current is not None and hooked:
        target.call("before_delete", session, shape.as_dict(current))
    statement: Any = sa.delete(table).where(*criteria)
    if resource.deleted is not None:
        statement = sa.update(table).where(*criteria).values({_column(resource.deleted): now(resource.deleted)})
    if current is None:
        rows = returned(session, statement, shape)
        if not rows:
            raise not_found(resource)
        return rows[0]
    session.execute(statement)
    if hooked:
        target.call("after_delete", session, shape.as_dict(current))
    return current


def _change(
    session: Session, target: Target, key: Sequence[Any], values: Values, if_match: str | None, operation: str
) -> Row:
    prepare_session(session)
    resource = target.resource
    shape = Shape.of(resource)
    values = dict(keep_owner(target, values))
    check_references(session, target, [values])
    if resource.model is not None and needs_unit_of_work(session, target, operation, [values]):
        return _change_entity(session, target, key, values, if_match, operation)
    current: Row | None = None
    if if_match is not None or target.hooks.around(operation):
        current = select_row(session, target, key, lock=True)
        if if_match is not None:
            _check_match(shape, current, if_match)
        replacement = target.call(f"before_{operation}", session, values, shape.as_dict(current))
        values = replacement if is_dict(replacement) else values
    if not values:
        return current or select_row(session, target, key)
    criteria = [*key_criteria(resource, key), *target.visible]
    statement = sa.update(_table(resource)).where(*criteria).values(columns_of(resource, values))
    if connected_dialect(session).update_returning and not target.cautious and not target.hooks.around(operation):
        rows = returned(session, statement, shape)
        if not rows:
            raise not_found(resource)
        row = rows[0]
    else:
        if not affected(session, statement):
            raise not_found(resource)
        row = select_row(session, target, key)
    row = _after_rows(session, target, f"after_{operation}", [row], [values])[0]
    if not target.ownership.is_plain:
        select_row(session, target, key)
    return row


def _after_rows(session: Session, target: Target, hook: str, rows: list[Row], values: Sequence[Values]) -> list[Row]:
    """Call a hook after rows of a plain table were written, and read them again: it may have changed them."""
    if hook not in target.hooks:
        return rows
    shape = Shape.of(target.resource)
    for row, given in zip(rows, values, strict=True):
        target.call(hook, session, shape.as_dict(row), given)
    return [_select_created(session, target.resource, shape.key(row)) for row in rows]


def _change_entity(
    session: Session, target: Target, key: Sequence[Any], values: Values, if_match: str | None, operation: str
) -> Row:
    entity = _lock_entity(session, target, key)
    if if_match is not None:
        _check_match(Shape.of(target.resource), select_row(session, target, key), if_match)
    replacement = target.call(f"before_{operation}", session, values, entity)
    if is_dict(replacement):
        values = replacement
    for name, value in values.items():
        setattr(entity, name, _sql_null(target.resource, name, value))
    session.flush()
    if f"after_{operation}" in target.hooks:
        target.call(f"after_{operation}", session, entity, values)
        session.flush()
    return select_row(session, target, key)


def _create_entities(session: Session, target: Target, rows: Sequence[Values]) -> list[Row]:
    resource = target.resource
    model: Any = resource.model
    entities: list[Any] = []
    for values in rows:
        prepared = {name: _sql_null(resource, name, value) for name, value in values.items()}
        entity = model(**prepared)
        entities.append(entity)
    session.add_all(entities)
    session.flush()
    if "after_create" in target.hooks:
        for entity, values in zip(entities, rows, strict=True):
            target.call("after_create", session, entity, values)
        session.flush()
    mapper = sa.inspect(model)
    by_column = {column: number for number, column in enumerate(mapper.primary_key)}
    order = [next(by_column[column] for column in item.columns if column in by_column) for item in resource.key]
    keys = [tuple(mapper.primary_key_from_instance(entity)[number] for number in order) for entity in entities]
    return [_select_created(session, resource, key) for key in keys]


def _delete_entity(session: Session, target: Target, key: Sequence[Any], if_match: str | None) -> Row:
    shape = Shape.of(target.resource)
    entity = _lock_entity(session, target, key)
    row = select_row(session, target, key)
    if if_match is not None:
        _check_match(shape, row, if_match)
    target.call("before_delete", session, entity)
    deleted = target.resource.deleted
    if deleted is None:
        session.delete(entity)
    else:
        setattr(entity, deleted.name, now(deleted))
    session.flush()
    if "after_delete" in target.hooks:
        target.call("after_delete", session, entity)
        session.flush()
    return row


def _lock_entity(session: Session, target: Target, key: Sequence[Any]) -> Any:
    model: Any = target.resource.model
    statement = (
        sa.select(model)
        .where(*key_criteria(target.resource, key), *target.visible)
        .with_for_update(of=model if dialect_of(session).name == "postgresql" else None)
        .execution_options(populate_existing=True)
    )
    entity = session.execute(statement).unique().scalar_one_or_none()
    if entity is None:
        raise not_found(target.resource)
    return entity


def _insert(session: Session, resource: Resource, rows: Sequence[Values]) -> list[Row]:
    """Insert rows, those together that one statement takes, and return them in order."""
    shape = Shape.of(resource)
    dialect = connected_dialect(session)
    table = _table(resource)
    prepared = [columns_of(resource, values) for values in rows]
    if not dialect.insert_returning:
        return [_insert_one(session, resource, values) for values in prepared]
    found: dict[int, Row] = {}
    for numbers in stored_together(resource, prepared):
        chosen = [prepared[number] for number in numbers]
        if len(chosen) == 1:
            statement = sa.insert(table).values(chosen[0])
            inserted = returned(session, statement, shape)
        else:
            inserted = _insert_many(session, resource, chosen)
        if len(inserted) < len(chosen):
            raise not_stored(resource)
        found.update(zip(numbers, inserted, strict=True))
    return [found[number] for number in range(len(prepared))]


def stored_together(resource: Resource, rows: Sequence[Values]) -> list[list[int]]:
    """Return the places of the rows that one statement stores: they set the same columns. One that holds SQL is alone.

    Args:
        resource: where they are stored.
        rows: the rows, by the keys of their columns.
    """
    columns = _table(resource).columns
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, values in enumerate(rows):
        has_sql = any(
            isinstance(value, sa.ClauseElement)
            and not (isinstance(value, sa.Null) and isinstance(columns[key].type, sa.JSON))  # which binds it as a value
            for key, value in values.items()
        )
        groups.setdefault((*sorted(values), place) if has_sql else tuple(sorted(values)), []).append(place)
    return list(groups.values())


def _insert_many(session: Session, resource: Resource, rows: Sequence[Values]) -> list[Row]:
    """Insert rows that set the same columns, in batches of one statement, and return them in order."""
    shape = Shape.of(resource)
    table = _table(resource)
    counter = table.autoincrement_column
    # SQLite and MariaDB number the rows of a statement in its order, though they may return them in another.
    numbered = counter is not None and counter.key not in rows[0] and dialect_of(session).name != "postgresql"
    statement = sa.insert(table).returning(*shape.columns, sort_by_parameter_order=not numbered)
    found = [exact(shape, tuple(row)) for row in session.execute(statement, rows)]
    if numbered:
        place = next(
            place for place, item in enumerate(shape.fields) if any(column is counter for column in item.columns)
        )
        found.sort(key=lambda row: row[place])
    return found


def _insert_one(session: Session, resource: Resource, values: Values) -> Row:
    result: Any = session.execute(sa.insert(_table(resource)).values(values))
    by_column = dict(zip(_table(resource).primary_key.columns, result.inserted_primary_key, strict=True))
    return _select_created(session, resource, [by_column[item.column] for item in resource.key])  # type: ignore[index]


def _select_created(session: Session, resource: Resource, key: Sequence[Any]) -> Row:
    shape = Shape.of(resource)
    statement = sa.select(*shape.columns).select_from(resource.table).where(*key_criteria(resource, key))
    return fetch(session, statement, shape.fields)[0]


def returned(session: Session, statement: Any, shape: Shape) -> list[Row]:
    """Run an INSERT, UPDATE or DELETE and return the rows that it gives back, whole."""
    return [exact(shape, row) for row in execute(session, statement.returning(*shape.columns))]


def affected(session: Session, statement: Any) -> int:
    """Run an UPDATE or DELETE and return the number of rows that it matched."""
    result: Any = session.execute(statement)
    return int(result.rowcount)


def prepare_session(session: Session) -> None:
    """Tell the session that this transaction writes, so that SQLite takes its write lock before the first read."""
    if isinstance(session, ScopedSession) and not session.in_transaction():
        session.writing = True


def needs_unit_of_work(session: Session | None, target: Target, operation: str, rows: Sequence[Values]) -> bool:
    """Whether Python-side behaviour of a model must see the change; without a session, its listeners are not asked."""
    resource = target.resource
    mapper = resource.mapper
    if mapper is None:
        return False
    if target.hooks.around(operation) or not isinstance(resource.table, sa.Table):
        return True
    if mapper.version_id_col is not None or mapper.validators or mapper.polymorphic_on is not None:
        return True
    if any(name not in resource.fields for values in rows for name in values):
        return True
    return _has_listeners(session, mapper)


def _has_listeners(session: Session | None, mapper: orm.Mapper[Any]) -> bool:
    names = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")
    if any(getattr(mapper.dispatch, name) for name in names):
        return True
    if session is not None and any(getattr(session.dispatch, name) for name in ("before_flush", "after_flush")):
        return True
    return any(
        getattr(attribute.dispatch, name)
        for attribute in mapper.class_manager.attributes
        for name in ("set", "append", "remove")
        if attribute.key in mapper.column_attrs
    )


def deletes_entities(session: Session | None, target: Target) -> bool:
    """Whether rows are deleted as instances of their model, whose relationships may delete others with them."""
    mapper = target.resource.mapper
    if mapper is None:
        return False
    cascades = any(item.cascade.delete and not item.passive_deletes for item in mapper.relationships)
    return cascades or needs_unit_of_work(session, target, "delete", ())


def keep_owner(target: Target, values: Values) -> Values:
    """Refuse to hand a row over to another owner."""
    for name, value in target.ownership.presets().items():
        if name in values and values[name] != value:
            detail = f"The field {name} says whose row it is and cannot be changed."
            raise ProblemError(Problem(status=422, code="validation_error", detail=detail, fields=[name]))
    return values


def _check_match(shape: Shape, row: Row, if_match: str) -> None:
    if not matches(if_match, shape.etag(row), weak=False):
        raise precondition_failed()


def columns_of(resource: Resource, values: Values) -> Values:
    """Return values by column key, ready for a Core statement."""
    found: Values = {}
    for name, value in values.items():
        item = resource.fields.get(name)
        if item is None:
            raise ValueError(f"{resource.name} has no column for {name}; a before_ hook can take it out of the values.")
        found[_column(item).key] = _sql_null(resource, name, value)
    return found


def _sql_null(resource: Resource, name: str, value: Any) -> Any:
    """A JSON null in a nullable column is NULL, not the JSON value null."""
    item = resource.fields.get(name)
    if value is None and item is not None and isinstance(item.sql_type, sa.JSON):
        return sa.null()
    return value


def _fallback(item: Field) -> Any:
    default = getattr(item.column, "default", None)
    if default is not None and default.is_scalar:
        return default.arg
    return item.default


def exact(shape: Shape, row: Row) -> Row:
    """RETURNING on SQLite gives the integer 1 for the float 1.0."""
    if any(
        item.python_type is float and isinstance(value, int) for item, value in zip(shape.fields, row, strict=False)
    ):
        return tuple(
            float(value) if item.python_type is float and isinstance(value, int) else value
            for item, value in zip(shape.fields, row, strict=True)
        )
    return row


def _table(resource: Resource) -> sa.Table:
    if not is_table(resource.table):
        raise TypeError(f"{resource.name} is spread over several tables and is written through its model only.")
    return resource.table


def _column(item: Field) -> sa.Column[Any]:
    if not isinstance(item.column, sa.Column):
        raise TypeError(f"{item.name} is an expression and cannot be written.")
    return item.column


def now(item: Field) -> dt.datetime:
    """Return the time as a column of that kind stores it: UTC, without offset where the column has none."""
    moment = dt.datetime.now(dt.UTC)
    return moment if item.timezone else moment.replace(tzinfo=None)
