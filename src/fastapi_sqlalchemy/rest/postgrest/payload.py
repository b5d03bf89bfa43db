"""The rows that a change sends: columns that may be set, what a row leaves out, and NULL where there can be none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from ...web.problems import ProblemError
from ..bodies import TooManyItemsError
from ..endpoints import crud
from ..fields import Field
from ..query.errors import listed, shown
from ..resource import Resource
from .errors import failure
from .tables import Served

__all__ = ["read_changes", "read_new_rows"]


async def read_new_rows(
    request: Request, served: Served, columns: Sequence[str] | None, presets: Mapping[str, Any], *, defaults: bool
) -> list[dict[str, Any]]:
    """Return the rows of an insert or upsert, their values by field name.

    ``columns`` are the only ones to look at; one that a row leaves out is NULL, or with ``defaults`` its default.
    ``presets`` are set by ownership.
    """
    resource = served.resource
    settable = {**resource.creatable, **{item.name: item for item in resource.key if _is_settable(item)}}
    _check_columns(resource, settable, columns)
    keys = [name for name in settable if name not in resource.creatable]
    body = served.work.body("Create", preset=resource.fields, extra=keys)
    try:
        rows, many = await body.many(crud(request), resource, ignore_unknown=columns is not None)
    except RequestValidationError as error:
        raise _refused(resource, error) from None
    except TooManyItemsError as error:
        raise failure(400, "PGRST124", error.problem.detail) from None
    if columns is not None:
        missing = {} if defaults else dict.fromkeys(columns)
        rows = [{**missing, **{name: row[name] for name in columns if name in row}} for row in rows]
    elif many and len({frozenset(row) for row in rows}) > 1:
        raise failure(400, "PGRST102", "All rows must have the same columns.", hint="Or name them: columns=a,b.")
    for row in rows:
        _check_nulls(resource, settable, row, presets)
    return rows


async def read_changes(request: Request, served: Served, columns: Sequence[str] | None) -> dict[str, Any]:
    """Return the values that a PATCH sets, by field name."""
    resource = served.resource
    _check_columns(resource, resource.updatable, columns)
    try:
        values = await served.work.body("Update").one(crud(request), resource, ignore_unknown=columns is not None)
    except RequestValidationError as error:
        raise _refused(resource, error) from None
    return values if columns is None else {name: values[name] for name in columns if name in values}


def _is_settable(field: Field) -> bool:
    """Whether a new row may bring its own key."""
    column = field.column
    if not isinstance(column, sa.Column) or column.computed is not None:
        return False
    return column.identity is None or not column.identity.always


def _check_columns(resource: Resource, settable: Mapping[str, Field], columns: Sequence[str] | None) -> None:
    for name in columns or ():
        if name not in settable:
            raise _not_settable(resource, name)


def _check_nulls(
    resource: Resource, settable: Mapping[str, Field], row: Mapping[str, Any], presets: Mapping[str, Any]
) -> None:
    for name, item in settable.items():
        absent = item.required if name not in row else row[name] is None and not item.nullable
        if absent and name not in presets:
            raise failure(400, "23502", f"The column {resource.name}.{name} needs a value.")


def _refused(resource: Resource, error: RequestValidationError) -> ProblemError | RequestValidationError:
    """The error of a column that cannot be set, or those that were found in the values."""
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            return _not_settable(resource, str(item["loc"][-1]))
        if item["type"] in ("json_invalid", "missing", "model_type", "list_type", "model_attributes_type"):
            return failure(400, "PGRST102", f"The body cannot be read: {item['msg']}.")
    return error


def _not_settable(resource: Resource, name: str) -> ProblemError:
    if name in resource.readable:
        return failure(400, "428C9", f"The column {resource.name}.{shown(name)} cannot be set.")
    return failure(
        400,
        "PGRST204",
        f"Could not find the column '{shown(name)}' of '{resource.name}'",
        hint=f"There is: {listed(resource.creatable)}.",
    )
