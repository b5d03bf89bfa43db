"""Soft delete: a deleted row stays, and every ORM query leaves it out."""

from __future__ import annotations

import datetime as dt
from typing import Any, Self, cast

import sqlalchemy.orm
from sqlalchemy import ColumnElement, event, inspect
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Mapped, ORMExecuteState, mapped_column, object_session, with_loader_criteria

from ...sessions import own_listeners
from ..active import ActiveRecord
from ..types import UTCDateTime, utc_now

__all__ = ["INCLUDE_DELETED", "SoftDeleteMixin"]

INCLUDE_DELETED = "include_deleted"
"""The execution option that brings deleted rows back into a query."""


class SoftDeleteMixin:
    """Adds ``deleted_at``; ``delete()`` sets it, and rows that have it are left out of what the ORM selects.

    That holds for ``select()``, ``Query``, ``get()`` and the loading of relationships, in every session, sync and
    async. ``execution_options(include_deleted=True)`` on a statement, a query, a ``get()`` or a session brings them
    back. A bulk ``update()`` or ``delete()`` and a query of the table itself see every row.

    Name the mixin first: ``class User(SoftDeleteMixin, db.Base)``. On such a model ``delete()``, ``restore()`` and
    ``hard_delete()`` store at once, as ``save()`` does. On a model of a plain declarative base they change the object,
    and the session stores it with the next flush. A unique column counts deleted rows too; make its index partial
    (``postgresql_where``, ``sqlite_where``) to use a value again.

    Raises TypeError when the declarative base comes first, since its ``delete()`` would then remove the row.
    """

    deleted_at: Mapped[dt.datetime | None] = mapped_column(UTCDateTime, default=None, sort_order=903)

    def __init_subclass__(cls, **options: Any) -> None:
        order = cls.__mro__
        if ActiveRecord in order and order.index(ActiveRecord) < order.index(SoftDeleteMixin):
            raise TypeError(
                f"{cls.__name__}.delete() would remove the row. Name SoftDeleteMixin before the declarative base: "
                f"class {cls.__name__}(SoftDeleteMixin, db.Base)."
            )
        _listen()
        super().__init_subclass__(**options)

    @property
    def is_deleted(self) -> bool:
        """Whether the object counts as deleted."""
        return self.deleted_at is not None

    def delete(self) -> None:
        """Mark the row as deleted; the object leaves its session, as after a real delete."""
        self._mark()
        if (record := _active_record(self)) is not None:
            record.save()
            self._leave_session()

    def restore(self) -> Self:
        """Take the mark away and return the object."""
        self.deleted_at = None
        if (record := _active_record(self)) is not None:
            record.save()
        return self

    def hard_delete(self) -> None:
        """Remove the row for good."""
        if _active_record(self) is not None:
            cast("Any", super()).delete()
            return
        session = object_session(self)
        if session is None:
            raise sa_exc.InvalidRequestError("The object is in no session; use session.delete() on one that is.")
        session.delete(self)

    async def adelete(self) -> None:
        """The async twin of ``delete()``."""
        self._mark()
        if (record := _active_record(self)) is not None:
            await record.asave()
            self._leave_session()

    async def arestore(self) -> Self:
        """The async twin of ``restore()``."""
        self.deleted_at = None
        if (record := _active_record(self)) is not None:
            await record.asave()
        return self

    async def ahard_delete(self) -> None:
        """The async twin of ``hard_delete()``."""
        if _active_record(self) is not None:
            await cast("Any", super()).adelete()
        else:
            self.hard_delete()

    def _mark(self) -> None:
        if inspect(self).key is None:
            raise sa_exc.InvalidRequestError("The object has no row that could be deleted; save it first.")
        if self.deleted_at is None:
            self.deleted_at = utc_now()

    def _leave_session(self) -> None:
        """Else ``session.get()`` would find the object in the session without asking the database."""
        session = object_session(self)
        if session is not None:
            session.expunge(self)


def _active_record(row: object) -> ActiveRecord | None:
    """The object itself if its model has the helpers that store at once."""
    return row if isinstance(row, ActiveRecord) else None


def _is_not_deleted(cls: type[SoftDeleteMixin]) -> ColumnElement[bool]:
    return cls.deleted_at.is_(None)


_criteria = with_loader_criteria(SoftDeleteMixin, _is_not_deleted, include_aliases=True)


def _leave_out_deleted(state: ORMExecuteState) -> None:
    if state.is_select and not state.is_column_load and not state.execution_options.get(INCLUDE_DELETED, False):
        state.statement = state.statement.options(_criteria)


def _listen() -> None:
    """Watch every session from the first model with the mixin on; an application without one pays nothing."""
    if not event.contains(sqlalchemy.orm.Session, "do_orm_execute", _leave_out_deleted):
        with own_listeners():
            event.listen(sqlalchemy.orm.Session, "do_orm_execute", _leave_out_deleted)
