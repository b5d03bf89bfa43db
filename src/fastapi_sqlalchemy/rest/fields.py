"""One column as the HTTP face shows it: public name, Python type, bounds, and who may see or set it."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from .narrowing import is_table

__all__ = ["Field", "field_of", "looks_secret"]

_SECRET_WORDS = frozenset({"password", "passwd", "hash", "hashed", "secret", "token", "apikey", "salt", "otp"})
_SECRET_PARTS = ("password", "passwd", "apikey")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TIMESTAMPS = frozenset({"created_at", "updated_at"})
_LITERAL_DEFAULT = re.compile(
    r"\(*\s*(?:[+-]?\d+(?:\.\d*)?|'(?:[^']|'')*'|true|false|null)\s*\)*(?:::[\w\s()\[\]\".]+)?\s*\)*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Field:
    """One column of a resource.

    ``name`` is the public JSON name (the mapper's attribute key, or the column's name); ``column`` the first column
    mapped under it. ``minimum`` and ``maximum`` are the inclusive bounds of an integer type, ``max_length`` counts
    characters of text or bytes of a binary, ``precision`` and ``scale`` are decimal digits. ``choices`` are the values
    of an enum as JSON has them. ``secret`` tells that the name looks secret and was not exposed. ``shown`` turns a
    value that is not NULL into the one that a selection asks for, by a cast or a path into JSON; ``origin`` is the
    field that such a one, or one of another name, is made of.
    """

    name: str
    column: sa.ColumnElement[Any]
    columns: tuple[sa.ColumnElement[Any], ...]
    sql_type: sa.types.TypeEngine[Any]
    python_type: type[Any]
    nullable: bool
    primary_key: bool = False
    secret: bool = False
    readable: bool = True
    filterable: bool = True
    writable: bool = True
    updatable: bool = True
    required: bool = False
    version: bool = False
    is_text: bool = False
    timezone: bool = False
    max_length: int | None = None
    precision: int | None = None
    scale: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[Any, ...] | None = None
    has_default: bool = False
    default: Any = None
    doc: str | None = None
    shown: Callable[[Any], Any] | None = None
    origin: Field | None = None

    @property
    def stored(self) -> Field:
        """The field as it is stored: the origin of one that is renamed or cast, or the field itself."""
        return self.origin or self

    def hidden(self) -> Field:
        """Return this field as one that nobody outside may see, name or set."""
        return replace(self, readable=False, filterable=False, writable=False, updatable=False, required=False)


def looks_secret(name: str) -> bool:
    """Whether a column name looks like a secret: one of its words is, in snake case or in camel case."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word in _SECRET_WORDS or word.removesuffix("s") in _SECRET_WORDS or word == "hashes" for word in words):
        return True
    if any(first == "api" and second in ("key", "keys") for first, second in pairwise(words)):
        return True
    return any(part in "".join(words) for part in _SECRET_PARTS)


def field_of(
    name: str,
    columns: tuple[sa.ColumnElement[Any], ...],
    *,
    key: bool,
    expose: frozenset[str],
    version: bool = False,
    generated: bool = False,
    reflected: bool = False,
    doc: str | None = None,
) -> Field:
    """Return the field of one mapped attribute or table column.

    ``generated`` tells that the mapper sets the value; ``reflected`` that a literal server default is a default like
    any other (in a model, a server default means that the server sets the value).
    """
    name = str(name)  # a reflected one is SQLAlchemy's own kind of text, which orjson does not take
    column = columns[0]
    python_type = _python_type(column.type)
    secret = name not in expose and any(looks_secret(part) for part in (name, *_names(columns)))
    is_enum = isinstance(column.type, sa.Enum)
    shape = _Bounds(column.type, python_type)
    if not isinstance(column, sa.Column):
        return Field(
            name=name,
            column=column,
            columns=columns,
            sql_type=column.type,
            python_type=python_type,
            nullable=True,
            secret=secret,
            readable=not secret,
            filterable=False,
            writable=False,
            updatable=False,
            doc=doc,
        )
    own = [item for item in columns if isinstance(item, sa.Column)]
    generated = generated or version or any(_is_generated(item) for item in own)
    has_default, default = _default(column)
    literal = reflected and _is_literal_default(column)
    if column.server_default is not None and not literal:
        generated = True
    if (key and column.default is not None) or (column.onupdate is not None and column.server_onupdate is None):
        generated = True
    if name in _TIMESTAMPS and (column.default is not None or column.server_default is not None):
        generated = True
    optional = (bool(column.nullable) and not key) or has_default or column.server_default is not None
    # A secret is settable only when it was exposed or a schema of the user's names it.
    writable = not generated and not secret
    return Field(
        name=name,
        column=column,
        columns=columns,
        sql_type=column.type,
        python_type=python_type,
        nullable=bool(column.nullable) and not key,
        primary_key=key,
        secret=secret,
        readable=not secret,
        filterable=not secret,
        writable=writable,
        updatable=writable and not key,
        required=writable and not optional,
        version=version,
        is_text=python_type is str and not is_enum,
        timezone=bool(getattr(column.type, "timezone", False)),
        max_length=shape.max_length,
        precision=shape.precision,
        scale=shape.scale,
        minimum=shape.minimum,
        maximum=shape.maximum,
        choices=shape.choices,
        has_default=has_default or literal,
        default=default,
        doc=doc or column.doc or column.comment,
    )


class _Bounds:
    """What a column type says about the values it takes."""

    def __init__(self, type_: sa.types.TypeEngine[Any], python_type: type[Any]) -> None:
        self.max_length: int | None = None
        self.precision: int | None = None
        self.scale: int | None = None
        self.minimum: int | None = None
        self.maximum: int | None = None
        self.choices: tuple[Any, ...] | None = None
        base = type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_
        if isinstance(base, sa.Enum):
            cls = base.enum_class
            self.choices = tuple(base.enums) if cls is None else tuple(member.value for member in cls)
        elif python_type is int and isinstance(base, sa.Integer):
            self.minimum, self.maximum = _integer_range(base)
        elif isinstance(base, (sa.String, sa.LargeBinary)) and isinstance(base.length, int):
            self.max_length = base.length
        elif isinstance(base, sa.Numeric) and not isinstance(base, (sa.Float, sa.Double)):
            self.precision, self.scale = _digits(base.precision, base.scale)
            if self.precision is not None and self.scale is None:
                self.scale = 0


def _digits(precision: int | None, scale: int | None) -> tuple[int | None, int | None]:
    """PostgreSQL has scales below zero, which round before the point, and above the precision, with zeros after it."""
    if precision is None or scale is None:
        return precision, scale
    return max(precision, scale, precision - scale), max(scale, 0)


def _integer_range(type_: sa.Integer) -> tuple[int, int]:
    if isinstance(type_, mysql.TINYINT):
        bits = 8
    elif isinstance(type_, mysql.MEDIUMINT):
        bits = 24
    elif isinstance(type_, sa.SmallInteger):
        bits = 16
    elif isinstance(type_, sa.BigInteger):
        bits = 64
    else:
        bits = 32
    if getattr(type_, "unsigned", False):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _python_type(type_: sa.types.TypeEngine[Any]) -> type[Any]:
    if isinstance(type_, sa.Enum) and type_.enum_class is not None:
        return type_.enum_class
    if isinstance(type_, sa.JSON):
        return dict
    if isinstance(type_, mysql.SET):
        return set
    found: type[Any] = object
    with suppress(NotImplementedError):  # types of others may raise it, as those of SQLAlchemy did before 2.1
        found = type_.python_type
    if found is object and isinstance(type_, sa.types.TypeDecorator) and not isinstance(type_, sa.PickleType):
        return _python_type(type_.impl_instance)
    return found


def _names(columns: tuple[sa.ColumnElement[Any], ...]) -> list[str]:
    return [str(column.name) for column in columns if isinstance(column, (sa.Column, sa.Label))]


def _is_autoincrement(column: sa.Column[Any]) -> bool:
    table = column.table
    return is_table(table) and table.autoincrement_column is column


def _is_generated(column: sa.Column[Any]) -> bool:
    """Whether the database makes the value; of a joined key, one column may do so for all."""
    return column.computed is not None or column.identity is not None or _is_autoincrement(column)


def _default(column: sa.Column[Any]) -> tuple[bool, Any]:
    """Return (there is a Python-side default, its value where it is a constant)."""
    default = column.default
    if default is None:
        return False, None
    value = getattr(default, "arg", None)
    if default.is_scalar:
        return True, value.value if isinstance(value, enum.Enum) else value
    return True, None


def _is_literal_default(column: sa.Column[Any]) -> bool:
    default = column.server_default
    if not isinstance(default, sa.DefaultClause):
        return False
    text = default.arg if isinstance(default.arg, str) else getattr(default.arg, "text", None)
    return isinstance(text, str) and _LITERAL_DEFAULT.fullmatch(text.strip()) is not None
