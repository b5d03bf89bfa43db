"""The helpers of a model: ``User.query``, ``User.get(1)``, ``user.save()`` and their async twins."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar, cast

from fastapi import HTTPException
from sqlalchemy import ColumnElement, MetaData, inspect, select
from sqlalchemy.orm import Query, SessionTransactionOrigin, object_session
from sqlalchemy.sql.roles import WhereHavingRole

from ..exceptions import MissingSessionError, UnknownAttributeError
from ..scope import Scope, innermost
from ..sessions import AsyncSession, Session, run_async_callbacks

__all__ = ["DATABASE_KEY", "HELPERS", "ActiveRecord", "adopt", "database_of", "store"]

M = TypeVar("M", bound="ActiveRecord")
R = TypeVar("R")

DATABASE_KEY = "fastapi_sqlalchemy.database"
"""Where ``MetaData.info`` keeps the database that the models of that metadata belong to."""

_DATABASES_KEY = "fastapi_sqlalchemy.databases"


class Database(Protocol):
    """What a model needs to know of its database."""

    @property
    def session(self) -> Session: ...

    @property
    def async_session(self) -> AsyncSession: ...

    @property
    def scope(self) -> Scope: ...


def adopt(metadata: MetaData, database: Database) -> None:
    """Let the models of ``metadata`` work with ``database``; with several, the one whose scope is open."""
    others: list[weakref.ref[Database]] = metadata.info.get(_DATABASES_KEY, [])
    metadata.info[_DATABASES_KEY] = [*(one for one in others if one() is not None), weakref.ref(database)]
    metadata.info[DATABASE_KEY] = database


def database_of(model: type) -> Database:
    """The database that a model belongs to; raises `MissingSessionError` for a model of no database."""
    metadata = getattr(model, "metadata", None)
    info: dict[Any, Any] = {} if metadata is None else metadata.info
    database: Database | None = info.get(DATABASE_KEY)
    others: list[weakref.ref[Database]] = info.get(_DATABASES_KEY, [])
    if len(others) > 1:
        alive = (reference() for reference in others)
        database = innermost(one for one in alive if one is not None) or database
    if database is None:
        raise MissingSessionError(
            f"The model {model.__name__} belongs to no database. Derive it from `db.Base`, or hand its declarative "
            "base over with `SQLAlchemy(url, model_class=Base)`."
        )
    return database


class _ReadOnlyProperty:
    """Keeps an assignment out of the object's ``__dict__``."""

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError("`query` and `session` come from the open scope and cannot be set on an object.")


class _QueryProperty(_ReadOnlyProperty):
    """``User.query`` and ``user.query``: a query for the model on the current session."""

    def __get__(self, instance: object, owner: type[M]) -> Query[M]:
        return database_of(owner).session.query(owner)


class _SessionProperty(_ReadOnlyProperty):
    """``user.session``: the session the object is in, else the current one."""

    def __get__(self, instance: object, owner: type) -> Session:
        if instance is not None:
            session = object_session(instance)
            if isinstance(session, Session):
                return session
        return database_of(owner).session


class ActiveRecord:
    """Finding, saving and deleting rows through their model.

    ``save``, ``update``, ``delete`` and ``new`` commit at once; inside a ``commit_on_exit`` scope or a
    ``db.transaction()`` they flush, and the scope commits. Each has an async twin that starts with ``a``.
    """

    query = _QueryProperty()
    session = _SessionProperty()

    @classmethod
    def new(cls, **values: Any) -> Self:
        """Make an object with these attributes and save it."""
        return cls(**values).save()

    @classmethod
    def get(cls, *key_or_criteria: Any, **equal: Any) -> Self | None:
        """The row with this primary key, or the first that meets the criteria, or None.

        ``User.get(1)``, ``User.get((1, 2))`` for a composite key, ``User.get(User.age > 18)``, ``User.get(name="x")``.
        """
        return _get(cls, database_of(cls).session, key_or_criteria, equal)

    @classmethod
    def get_all(cls, *criteria: ColumnElement[bool], **equal: Any) -> list[Self]:
        """All rows that meet the criteria."""
        return _get_all(cls, database_of(cls).session, criteria, equal)

    @classmethod
    def get_or_404(cls, *key_or_criteria: Any, **equal: Any) -> Self:
        """The same as ``get()``; raises ``HTTPException(404)`` where that gives None."""
        return _found(cls, cls.get(*key_or_criteria, **equal))

    def save(self) -> Self:
        """Insert or update the row of this object and return the object."""
        database = database_of(type(self))
        _save(self, database.session, database.scope)
        return self

    def update(self, **values: Any) -> Self:
        """Set these attributes, save, and return the object.

        Raises `UnknownAttributeError` (a TypeError) for a name the model does not have; then nothing is changed.
        """
        _assign(self, values)
        return self.save()

    def delete(self) -> None:
        """Delete the row of this object."""
        database = database_of(type(self))
        _delete(self, database.session, database.scope)

    @classmethod
    async def anew(cls, **values: Any) -> Self:
        """The async twin of ``new()``."""
        return await cls(**values).asave()

    @classmethod
    async def aget(cls, *key_or_criteria: Any, **equal: Any) -> Self | None:
        """The async twin of ``get()``."""
        return await _run(cls, lambda session, _: _get(cls, session, key_or_criteria, equal))

    @classmethod
    async def aget_all(cls, *criteria: ColumnElement[bool], **equal: Any) -> list[Self]:
        """The async twin of ``get_all()``."""
        return await _run(cls, lambda session, _: _get_all(cls, session, criteria, equal))

    @classmethod
    async def aget_or_404(cls, *key_or_criteria: Any, **equal: Any) -> Self:
        """The async twin of ``get_or_404()``."""
        return _found(cls, await cls.aget(*key_or_criteria, **equal))

    async def asave(self) -> Self:
        """The async twin of ``save()``."""
        await _run(type(self), lambda session, scope: _save(self, session, scope))
        return self

    async def aupdate(self, **values: Any) -> Self:
        """The async twin of ``update()``."""
        _assign(self, values)
        return await self.asave()

    async def adelete(self) -> None:
        """The async twin of ``delete()``."""
        await _run(type(self), lambda session, scope: _delete(self, session, scope))


HELPERS = frozenset(name for name in vars(ActiveRecord) if not name.startswith("_"))
_NO_VALUES = HELPERS | {"metadata", "registry"}


async def _run(model: type, work: Callable[[Session, Scope], R]) -> R:
    database = database_of(model)
    session, scope = database.async_session, database.scope
    result = await session.run_sync(lambda sync_session: work(cast(Session, sync_session), scope))
    await run_async_callbacks(session.sync_session)
    return result


def _get(cls: type[M], session: Session, arguments: tuple[Any, ...], equal: dict[str, Any]) -> M | None:
    if len(arguments) == 1 and not equal and not _is_criterion(arguments[0]):
        return None if arguments[0] is None else session.get(cls, arguments[0])
    return session.scalars(_select(cls, arguments, equal).limit(1)).first()


def _get_all(cls: type[M], session: Session, criteria: Sequence[Any], equal: dict[str, Any]) -> list[M]:
    return list(session.scalars(_select(cls, criteria, equal)).unique())


def _select(cls: type[M], criteria: Sequence[Any], equal: dict[str, Any]) -> Any:
    for criterion in criteria:
        if not _is_criterion(criterion):
            raise UnknownAttributeError(
                f"{cls.__name__}.get() takes one primary key, or SQL criteria such as {cls.__name__}.id > 1; "
                f"a {type(criterion).__name__} is neither."
            )
    _check_names(cls, equal, mapped_only=True)
    statement = select(cls)
    if criteria:
        statement = statement.where(*criteria)
    return statement.filter_by(**equal) if equal else statement


def _is_criterion(value: object) -> bool:
    return isinstance(value, WhereHavingRole) or hasattr(value, "__clause_element__")


def _found(cls: type[M], row: M | None) -> M:
    if row is None:
        raise HTTPException(status_code=404, detail=f"{cls.__name__} not found")
    return row


def _check_names(cls: type, names: dict[str, Any], *, mapped_only: bool = False) -> None:
    known: list[str] = list(cast(Any, inspect(cls)).all_orm_descriptors.keys())
    unknown = [name for name in names if name not in known and (mapped_only or not _is_plain_attribute(cls, name))]
    if unknown:
        raise UnknownAttributeError(
            f"{cls.__name__} has no attribute {', '.join(map(repr, unknown))}. It has: {', '.join(sorted(known))}."
        )


def _is_plain_attribute(cls: type, name: str) -> bool:
    return not name.startswith("_") and name not in _NO_VALUES and hasattr(cls, name)


def _assign(row: ActiveRecord, values: dict[str, Any]) -> None:
    _check_names(type(row), values)
    for name, value in values.items():
        setattr(row, name, value)


def _save(row: ActiveRecord, session: Session, scope: Scope) -> None:
    session.add(row)
    store(session, scope)
    expired = inspect(row).expired_attributes
    if expired:
        session.refresh(row, attribute_names=expired)


def _delete(row: ActiveRecord, session: Session, scope: Scope) -> None:
    session.delete(row)
    store(session, scope)


def store(session: Session, scope: Scope) -> None:
    """Commit at once, unless somebody further out does."""
    current = session.get_transaction()
    explicit = session.in_nested_transaction() or (
        current is not None and current.origin is SessionTransactionOrigin.BEGIN
    )
    if scope.in_unit or explicit:
        session.flush()
        return
    try:
        session.commit()
    except BaseException:
        session.rollback()
        raise
