"""``isinstance`` for values of any type, in a form that type checkers follow into generic classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy import orm

__all__ = [
    "is_array",
    "is_binary",
    "is_criterion",
    "is_dict",
    "is_items",
    "is_iterable",
    "is_mapper",
    "is_mapping",
    "is_table",
]


def is_array(value: object) -> TypeGuard[sa.ARRAY[Any]]:
    """Whether the value is an array type."""
    return isinstance(value, sa.ARRAY)


def is_binary(value: object) -> TypeGuard[bytes | bytearray | memoryview[int]]:
    """Whether the value is a run of bytes."""
    return isinstance(value, (bytes, bytearray, memoryview))


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether the value is a dictionary."""
    return isinstance(value, dict)


def is_items(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether the value is a list or a tuple."""
    return isinstance(value, (list, tuple))


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether the value can be iterated over."""
    return isinstance(value, Iterable)


def is_mapper(value: object) -> TypeGuard[orm.Mapper[Any]]:
    """Whether the value is the mapper of a class."""
    return isinstance(value, orm.Mapper)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether the value is a mapping."""
    return isinstance(value, Mapping)


def is_table(value: object) -> TypeGuard[sa.Table]:
    """Whether the value is a table, and no join or subquery."""
    return isinstance(value, sa.Table)


def is_criterion(value: object) -> TypeGuard[sa.ColumnElement[bool]]:
    """Whether the value is a SQL expression."""
    return isinstance(value, sa.ColumnElement)
