"""Names that models get when they do not give their own: tables, indexes and constraints."""

from __future__ import annotations

import hashlib
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, cast, get_args, get_origin, get_type_hints

from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint, Table
from sqlalchemy.ext.declarative import AbstractConcreteBase
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, MappedColumn, declared_attr
from sqlalchemy.sql.expression import FromClause

if sys.version_info >= (3, 14):
    import annotationlib

_MIXED_CASE_WORDS: Final = {"OAuth": "Oauth", "IPv": "Ipv"}


def table_name(cls_name: str) -> str:
    """Return the table name of a class: snake case, singular, never pluralised.

    ``User`` -> ``user``, ``UserAccount`` -> ``user_account``, ``HTTPServer`` -> ``http_server``,
    ``OAuth2Token`` -> ``oauth2_token``.

    Args:
        cls_name: a class name in any script that has upper and lower case.
    """
    for word, one_case in _MIXED_CASE_WORDS.items():
        cls_name = cls_name.replace(word, one_case)
    letters: list[str] = []
    for index, letter in enumerate(cls_name):
        if index and letter.isupper():
            before, after = cls_name[index - 1], cls_name[index + 1 : index + 2]
            if before.islower() or before.isdigit() or (before.isupper() and after.islower()):
                letters.append("_")
        letters.append(letter.lower())
    return "".join(letters)


def needs_table_name(cls: type) -> bool:
    """Say whether a table name should be generated for a class that SQLAlchemy has not mapped yet.

    No for a class that gives ``__tablename__`` or ``__table__`` itself or through a mixin, for an abstract class,
    for a mixin, for the declarative base, and for a child that shares its parent's table. Yes for everything else,
    which includes a child with a primary key column of its own (joined table inheritance) and a concrete child.

    Args:
        cls: the class under construction, before its mapper is configured.

    Source: SQLAlchemy manual, "Mapping Class Inheritance Hierarchies".
    """
    own = vars(cls)
    if own.get("__abstract__", False) or not hasattr(cls, "registry"):
        return False
    if DeclarativeBase in cls.__bases__ or DeclarativeBaseNoMeta in cls.__bases__:
        return False
    if any("__tablename__" in vars(base) or "__table__" in vars(base) for base in _unmapped_bases(cls)):
        return False
    if AbstractConcreteBase in cls.__bases__:
        return False
    if not any(_is_mapped(base) for base in cls.__mro__[1:]):
        return True
    return _is_concrete(own.get("__mapper_args__")) or _declares_primary_key(cls)


def _unmapped_bases(cls: type) -> Iterator[type]:
    """The class and those of its bases that have no table of their own, in method resolution order."""
    yield cls
    yield from (base for base in cls.__mro__[1:] if not _is_mapped(base))


def _is_mapped(cls: type) -> bool:
    own = vars(cls)
    return "__mapper__" in own or (isinstance(own.get("__table__"), FromClause) and hasattr(cls, "registry"))


def _is_concrete(mapper_args: object) -> bool:
    if not isinstance(mapper_args, Mapping):
        return False
    return bool(cast("Mapping[str, object]", mapper_args).get("concrete", False))


def _declares_primary_key(cls: type) -> bool:
    """Whether the class, or a mixin that none of its mapped bases has, declares a primary key column."""
    inherited = {base for parent in cls.__mro__[1:] if _is_mapped(parent) for base in parent.__mro__}
    for base in cls.__mro__:
        if base in inherited:
            continue
        if any(_is_primary_key(_declared(cls, value)) for name, value in vars(base).items() if name[:2] != "__"):
            return True
        table_args = vars(base).get("__table_args__")
        if isinstance(table_args, tuple) and any(
            isinstance(argument, PrimaryKeyConstraint) for argument in cast("tuple[object, ...]", table_args)
        ):
            return True
        if any(_is_primary_key(argument) for argument in _annotated_arguments(base)):
            return True
    return False


def _declared(cls: type, value: object) -> object:
    """The value of a class attribute; that of a `declared_attr` is what it builds for the class."""
    if isinstance(value, declared_attr):
        return cast("Any", value).fget(cls)
    return value


def _is_primary_key(value: object) -> bool:
    if isinstance(value, MappedColumn):
        return bool(cast("Any", value).column.primary_key)
    return isinstance(value, Column) and value.primary_key


def _annotated_arguments(cls: type) -> Iterator[object]:
    """Every argument of the ``Annotated`` types in the class's own annotations, as in ``Mapped[intpk]``."""
    if sys.version_info >= (3, 14):
        annotations = annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    else:
        annotations = vars(cls).get("__annotations__", {})
    module = sys.modules.get(cls.__module__)
    for name, annotation in annotations.items():
        holder = type("holder", (), {"__annotations__": {name: annotation}, "__module__": cls.__module__})
        try:
            hint = get_type_hints(holder, vars(module) if module else None, dict(vars(cls)), include_extras=True)[name]
        except (NameError, AttributeError, TypeError, SyntaxError):
            continue  # a class that is not defined yet cannot be resolved, and cannot be a key column either
        yield from _annotated_parts(hint)


def _annotated_parts(hint: object) -> Iterator[object]:
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        yield from arguments[1:]
        arguments = arguments[:1]
    for argument in arguments:
        if isinstance(argument, typing.Hashable):
            yield from _annotated_parts(argument)


def _check_constraint_name(constraint: CheckConstraint, table: Table) -> str:
    """The name of a CHECK constraint: the given one with the table in front, else a digest of its condition."""
    prefix = f"ck_{table.name}_"
    name = constraint.name
    if isinstance(name, str):
        return name if name.startswith(prefix) else prefix + name
    condition = constraint.sqltext.compile()
    text = f"{condition} {sorted(condition.params.items())}"
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:8]


NAMING_CONVENTION: Final[dict[str, Any]] = {
    "check_constraint_name": _check_constraint_name,
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "%(check_constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""For ``MetaData(naming_convention=...)``: every index and constraint has a name, the same on every run and database.

Names are needed to drop or alter a constraint later (Alembic manual, "The Importance of Naming Constraints").
A name longer than the database allows is cut by SQLAlchemy to a prefix and a digest of the whole.
"""
