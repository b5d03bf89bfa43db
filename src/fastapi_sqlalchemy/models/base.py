"""`ModelBase`, the class behind every model, and the declarative base that `SQLAlchemy` makes from it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import get_annotations
from typing import Any, cast

from pydantic_core import SchemaSerializer, core_schema
from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, MapperProperty, declared_attr
from sqlalchemy.orm.decl_api import DCTransformDeclarative

from ..exceptions import ConfigurationError, ReservedNameError
from .active import HELPERS, ActiveRecord
from .naming import NAMING_CONVENTION, needs_table_name, table_name

__all__ = ["ModelBase", "declarative_base_for"]


class ModelBase(ActiveRecord):
    """Base of all models: generated table names, query helpers, a dictionary of the columns.

    ``class User(db.Base)``, ``class User(ModelBase, db.Base)`` and ``class User(MyBase, db.Base)`` with
    ``class MyBase(ModelBase)`` all work. For strict type checkers write ``class Base(ModelBase, DeclarativeBase)`` and
    hand it over: ``SQLAlchemy(url, model_class=Base)``.

    ``dict(user)`` holds the columns and nothing else, so that ``jsonable_encoder(user)`` does too.
    Raises `ReservedNameError` when a column has the name of a helper.
    """

    # for a route that is annotated to return Any: pydantic looks here when it meets an object it does not know
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(dict))
    )

    def __init_subclass__(cls, **options: Any) -> None:
        if issubclass(cls, DeclarativeBase) and DeclarativeBase not in cls.__bases__:
            _refuse_reserved_names(cls)
            if needs_table_name(cls):
                cls.__tablename__ = table_name(cls.__name__)
        super().__init_subclass__(**options)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        state = inspect(self)
        assert state is not None
        unloaded = state.unloaded if state.key is not None else frozenset[str]()
        for attribute in state.mapper.column_attrs:
            if not (attribute.deferred and attribute.key in unloaded):
                yield attribute.key, getattr(self, attribute.key)

    def __repr__(self) -> str:
        state = inspect(self)
        assert state is not None
        key = state.identity
        shown = "transient" if key is None else ", ".join(map(repr, key))
        return f"<{type(self).__name__} {shown}>"


class _BaseMeta(DCTransformDeclarative):
    """Lets a model name a base class that another of its bases has already: ``class User(ModelBase, db.Base)``."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        needed = tuple(
            base
            for index, base in enumerate(bases)
            if not any(issubclass(other, base) and other is not base for other in bases[index + 1 :])
        )
        return super().__new__(cls, name, needed, namespace, **options)


def declarative_base_for(model_class: type[Any], metadata: MetaData | None) -> Any:
    """The declarative base made of ``model_class``, or ``model_class`` itself when it is one already."""
    if issubclass(model_class, DeclarativeBase):
        if metadata is not None and model_class.metadata is not metadata:
            raise ConfigurationError("model_class has its own metadata; leave metadata= out.")
        if set(model_class.metadata.naming_convention) <= {"ix"}:
            model_class.metadata.naming_convention = NAMING_CONVENTION
        return model_class
    if metadata is None:
        metadata = MetaData(naming_convention=NAMING_CONVENTION)
    make_class: Any = _BaseMeta  # for pyright a class made by it is a dataclass, which needs no arguments
    return make_class("Base", (model_class, DeclarativeBase), {"metadata": metadata, "__module__": __name__})


def _refuse_reserved_names(cls: type) -> None:
    _refuse_reserved_columns(cls)
    for owner in cls.__mro__:
        if owner is not cls and (issubclass(owner, ModelBase) or issubclass(ModelBase, owner)):
            continue
        annotations = get_annotations(owner)
        for name in HELPERS:
            value = owner.__dict__.get(name)
            annotated = str(annotations.get(name, ""))
            if isinstance(value, (Column, MapperProperty, Mapped, declared_attr)) or "Mapped[" in annotated:
                raise ReservedNameError(
                    f"{cls.__name__}.{name} is a column with the name of a model helper, which it would hide. Give the "
                    f'attribute another name and keep the column\'s: {name}_ = mapped_column("{name}", ...).'
                )


def _refuse_reserved_columns(cls: type) -> None:
    """The same for a class that is given its table; a column mapped to another attribute is fine."""
    table: Any = cls.__dict__.get("__table__")
    if not isinstance(table, Table):
        return
    renamed: list[Any] = list(vars(cls).values())
    columns: list[Any] = list(cast(Any, table).columns)
    for column in columns:
        name = str(column.key)
        if name in HELPERS and not any(column is value for value in renamed):
            raise ReservedNameError(
                f"{cls.__name__}.{name} is a column with the name of a model helper, which it would hide. Map it to "
                f"another attribute: {name}_ = __table__.c.{name}."
            )
