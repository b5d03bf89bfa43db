"""Factories that make rows for tests, over polyfactory: what a model needs is made up and saved."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from random import Random
from typing import Any, ClassVar, Generic, TypeVar, cast

import sqlalchemy.orm
from sqlalchemy import Column, DateTime, Table, UniqueConstraint, inspect
from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection, RelationshipProperty

from ..database import SQLAlchemy
from ..exceptions import ConfigurationError, MissingExtraError
from ..models.active import database_of, store
from ..models.types import UTCDateTime
from ..scope import Scope, current_scope
from ..sessions import Session, run_async_callbacks

try:
    from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory
    from polyfactory.field_meta import FieldMeta
except ImportError:
    raise MissingExtraError(
        'Factories need polyfactory. Install it with: pip install "fastapi-sqlalchemy[testing]"'
    ) from None

__all__ = ["ModelFactory"]

T = TypeVar("T")

_numbers = itertools.count(1)


class _AwareDateTime(datetime):
    """Stands for a datetime that knows its offset."""


class ModelFactory(SQLAlchemyFactory[T]):
    """Base of factories: ``class BookFactory(ModelFactory[Book]): ...``, then ``BookFactory.create_sync(title="x")``.

    ``create_sync`` and ``create_batch_sync(n)`` save through ``db.session``, ``create_async`` and
    ``create_batch_async(n)`` through ``db.async_session``, as ``save()`` does: they commit at once, and flush where
    somebody further out commits. Where no scope is open they open one. ``build`` and ``batch(n)`` save nothing.

    A column that must have a value and has no default gets one that fits; unique ones never get the same twice in a
    process. A required foreign key gets a parent, by its relationship if there is one. What may be missing, what the
    model or the database generates, and collections are left out unless they are given; ``__fill_nullable__ = True``
    fills columns that may be NULL as well.
    """

    __is_base_factory__ = True
    __allow_none_optionals__ = False
    __set_association_proxy__ = False
    __fill_nullable__: ClassVar[bool] = False
    """Whether columns that may be NULL get a value too."""

    __config_keys__ = (*SQLAlchemyFactory.__config_keys__, "__fill_nullable__")

    @classmethod
    def get_sqlalchemy_types(cls) -> dict[Any, Any]:
        """How to make values of a column's type, by the type."""
        return {**super().get_sqlalchemy_types(), UTCDateTime: cls._aware_datetime}

    @classmethod
    def get_provider_map(cls) -> dict[Any, Any]:
        """How to make values of a Python type."""
        return {**super().get_provider_map(), _AwareDateTime: cls._aware_datetime}

    @classmethod
    def get_type_from_column(cls, column: Column[Any]) -> type:
        """The Python type of a column's values."""
        if isinstance(column.type, DateTime) and column.type.timezone:
            return _AwareDateTime
        parent: Any = super()
        kind: type = parent.get_type_from_column(column)
        return kind

    @classmethod
    def get_model_fields(cls) -> list[FieldMeta]:
        """The attributes to fill: those that must have a value, and those that the factory declares."""
        mapper = _mapper_of(cls.__model__)
        needed = {key for key, column in mapper.columns.items() if cls._is_needed(mapper, column)}
        needed |= {relationship.key for relationship in _required_parents(mapper)}
        return [
            field for field in super().get_model_fields() if field.name in needed or _is_declared(cls, str(field.name))
        ]

    @classmethod
    def should_set_field_value(cls, field_meta: FieldMeta, **kwargs: Any) -> bool:
        """Whether to make a value up: not for a parent whose foreign key is given."""
        mapper = _mapper_of(cls.__model__)
        relationship = mapper.relationships.get(str(field_meta.name))
        if relationship is not None and any(
            mapper.get_property_by_column(column).key in kwargs for column in relationship.local_columns
        ):
            return False
        return super().should_set_field_value(field_meta, **kwargs)

    @classmethod
    def get_field_value(
        cls, field_meta: FieldMeta, field_build_parameters: Any | None = None, build_context: Any | None = None
    ) -> Any:
        """A value for one attribute."""
        mapper = _mapper_of(cls.__model__)
        if field_meta.name in _unique_attributes(mapper):
            value = _unique_value(mapper.columns[field_meta.name], cls.__random__)
            if value is not None:
                return value
        parent: Any = super()
        return parent.get_field_value(field_meta, field_build_parameters, build_context)

    @classmethod
    def parent_of(cls, model: type) -> Any:
        """A parent for a foreign key that no relationship stands for, not saved yet."""
        factory = cast(Any, cls._get_or_create_factory(model))
        return factory.build()

    @classmethod
    def _get_sync_persistence(cls) -> Any:
        return (
            super()._get_sync_persistence()
            if cls.__session__ or cls.__sync_persistence__
            else _Saver(cls, cls.__model__)
        )

    @classmethod
    def _get_async_persistence(cls) -> Any:
        given = cls.__async_session__ or cls.__async_persistence__
        return super()._get_async_persistence() if given else _AsyncSaver(cls, cls.__model__)

    @classmethod
    def _aware_datetime(cls) -> datetime:
        made: datetime = cls.__faker__.date_time(tzinfo=UTC)
        return made

    @classmethod
    def _is_needed(cls, mapper: Mapper[Any], column: Column[Any]) -> bool:
        if _is_generated(mapper, column) or column.foreign_keys:
            return False
        return not column.nullable or cls.__fill_nullable__


class _Saver(Generic[T]):
    """Saves through ``db.session``."""

    def __init__(self, factory: type[ModelFactory[T]], model: type) -> None:
        self._factory = factory
        self._database = cast(SQLAlchemy, database_of(model))

    def save(self, data: T) -> T:
        return self.save_many([data])[0]

    def save_many(self, data: list[T]) -> list[T]:
        database = self._database
        if current_scope(database) is None:
            with database():
                return self.save_many(data)
        _store_all(self._factory, data, database.session, database.scope)
        return data


class _AsyncSaver(Generic[T]):
    """Saves through ``db.async_session``."""

    def __init__(self, factory: type[ModelFactory[T]], model: type) -> None:
        self._factory = factory
        self._database = cast(SQLAlchemy, database_of(model))

    async def save(self, data: T) -> T:
        return (await self.save_many([data]))[0]

    async def save_many(self, data: list[T]) -> list[T]:
        database = self._database
        if current_scope(database) is None:
            async with database():
                return await self.save_many(data)
        session, scope = database.async_session, database.scope
        await session.run_sync(lambda plain: _store_all(self._factory, data, cast(Session, plain), scope))
        await run_async_callbacks(session.sync_session)
        return data


def _store_all(factory: type[ModelFactory[T]], rows: Iterable[T], session: Session, scope: Scope) -> None:
    """Add the rows and their missing parents, store them, and load what the database has generated."""
    rows = list(rows)
    for row in rows:
        _add_parents(factory, row, session)
    session.add_all(rows)
    store(session, scope)
    for row in rows:
        state: Any = inspect(row)
        expired = state.expired_attributes
        if expired:
            session.refresh(row, attribute_names=expired)


def _add_parents(factory: type[ModelFactory[Any]], row: object, session: sqlalchemy.orm.Session) -> None:
    """Insert what the required foreign keys of a new row, and of new rows related to it, have to lead to.

    The keys are known after the insert, and the row cannot be in the session before: so it is done in a session aside,
    in the same transaction.
    """
    state = cast("InstanceState[Any]", inspect(row))
    for new in (row, *(found[0] for found in state.mapper.cascade_iterator("save-update", state))):
        known: Any = inspect(new)
        if known.key is not None:
            continue
        for key, (model, parent_key) in _bare_foreign_keys(_mapper_of(type(new))).items():
            if getattr(new, key) is None:
                parent = factory.parent_of(model)
                connection = session.connection(bind_arguments={"mapper": _mapper_of(model)})
                with sqlalchemy.orm.Session(connection, join_transaction_mode="rollback_only") as aside:
                    _add_parents(factory, parent, aside)
                    aside.add(parent)
                    aside.flush()
                    setattr(new, key, getattr(parent, parent_key))


def _mapper_of(model: type) -> Mapper[Any]:
    mapper: Mapper[Any] = inspect(model)
    return mapper


def _is_declared(factory: type, name: str) -> bool:
    return hasattr(factory, name) and not hasattr(ModelFactory, name)


def _is_generated(mapper: Mapper[Any], column: Column[Any]) -> bool:
    """Whether the model or the database has a value for a column of which nothing is said."""
    by_database = column.server_default is not None or column.computed is not None or column.identity is not None
    is_counted = cast(Any, column.table).autoincrement_column is column
    is_version = mapper.version_id_col is column
    is_kind = mapper.polymorphic_on is column
    return by_database or column.default is not None or is_counted or is_version or is_kind


def _required_parents(mapper: Mapper[Any]) -> list[RelationshipProperty[Any]]:
    """The relationships to one object that a row cannot be without."""
    return [
        relationship
        for relationship in mapper.relationships
        if relationship.direction is RelationshipDirection.MANYTOONE
        and not relationship.viewonly
        and not any(column.nullable or _is_generated(mapper, column) for column in _columns_of(relationship))
    ]


def _columns_of(relationship: RelationshipProperty[Any]) -> list[Column[Any]]:
    return [column for column in relationship.local_columns if isinstance(column, Column)]


def _bare_foreign_keys(mapper: Mapper[Any]) -> dict[str, tuple[type, str]]:
    """Required foreign keys that no relationship stands for: by attribute, the parent's model and attribute."""
    covered = {column for relationship in _required_parents(mapper) for column in _columns_of(relationship)}
    found: dict[str, tuple[type, str]] = {}
    for key, column in mapper.columns.items():
        if not column.foreign_keys or column.nullable or column in covered or _is_generated(mapper, column):
            continue
        if mapper.inherits is not None and column.primary_key:
            continue
        target = next(iter(column.foreign_keys)).column
        parent = next((one for one in mapper.registry.mappers if one.local_table is target.table), None)
        if parent is None:
            raise ConfigurationError(
                f"{mapper.class_.__name__}.{key} refers to {target}, which has no model: give the factory a value for "
                "it."
            )
        found[key] = (parent.class_, parent.get_property_by_column(target).key)
    return found


def _unique_attributes(mapper: Mapper[Any]) -> frozenset[str]:
    """Attributes whose values must differ: one of each unique group that no foreign key is part of."""
    groups: list[list[Column[Any]]] = [[column] for column in mapper.columns if column.unique]
    for table in mapper.tables:
        if not isinstance(table, Table):
            continue
        groups.append(list(table.primary_key.columns))
        groups += [list(one.columns) for one in table.constraints if isinstance(one, UniqueConstraint)]
        groups += [list(one.columns) for one in table.indexes if one.unique]
    names: set[str] = set()
    for group in groups:
        own = [column for column in group if not column.foreign_keys and column in mapper.columns.values()]
        if own:
            names.add(mapper.get_property_by_column(own[0]).key)
    return frozenset(names)


def _unique_value(column: Column[Any], random: Random) -> Any:
    """A text or number that was not given before; None for types whose random values differ anyway."""
    kind = column.type.python_type
    if kind is int:
        return next(_numbers)
    if kind is str and not isinstance(getattr(column.type, "enums", None), list):
        length: int = getattr(column.type, "length", None) or 20
        return f"{next(_numbers)}-{random.getrandbits(64):x}"[:length].rstrip("-")
    return None
