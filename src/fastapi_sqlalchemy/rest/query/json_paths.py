"""Values within JSON as columns of text, so that a filter and an order take them as any other.

A text is itself, a number and a truth value their JSON; the null of JSON is NULL, and so is what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..fields import Field
from .errors import InvalidValueError
from .operands import Family

__all__ = ["text_within"]

Expression = sa.ColumnElement[Any]

_MAX_KEY = 100
_MAX_STEPS = 10


def text_within(field: Field, path: Sequence[str], family: Family) -> Field:
    """Return the text that a path leads to in a column of JSON, as a field; a step of digits is a place in an array.

    Raises :class:`InvalidValueError` for a path that not every database can follow.
    """
    if len(path) > _MAX_STEPS or any(len(key) > _MAX_KEY or set(key) & set('"\\\x00') for key in path):
        raise InvalidValueError("has a path that cannot be followed", "path")
    stored = sa.type_coerce(field.column, sa.types.NullType())
    return replace(
        field,
        name=f"{field.name}->>{'->'.join(path)}",
        column=_text(stored, path, family),
        columns=(),
        sql_type=sa.Text(),
        python_type=str,
        nullable=True,
        primary_key=False,
        is_text=True,
    )


def _text(stored: Expression, path: Sequence[str], family: Family) -> Expression:
    if family == "postgresql":
        keys: Expression = postgresql.array([sa.literal(key, sa.Text()) for key in path])
        return sa.cast(stored, postgresql.JSON).op("#>>", return_type=sa.Text())(keys)
    steps = sa.literal(
        "$" + "".join(f"[{key}]" if key.isascii() and key.isdigit() else f'."{key}"' for key in path), sa.Text()
    )
    found: Expression = sa.func.json_extract(stored, steps)
    text: Expression
    if family == "mysql":
        text = sa.func.json_unquote(found, type_=sa.Text())
        return sa.case((sa.func.json_type(found) == sa.literal_column("'NULL'"), sa.null()), else_=text)
    kind = sa.func.json_type(stored, steps, type_=sa.Text())
    words: list[Expression] = [sa.literal_column("'true'"), sa.literal_column("'false'")]
    text = sa.case((kind.in_(words), kind), else_=sa.cast(found, sa.Text()))
    # rows of a file may hold any text, which json_extract refuses
    return sa.case((sa.func.json_valid(stored) == sa.literal_column("1"), text), else_=sa.null())
