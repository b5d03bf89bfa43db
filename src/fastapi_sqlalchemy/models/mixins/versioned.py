"""Optimistic locking: a write over a row that has changed in the meantime is refused."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Integer, inspect, text
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column

__all__ = ["VersionMixin"]


class VersionMixin:
    """Adds ``version``, which counts the changes of a row and guards each UPDATE and DELETE of the ORM.

    A flush of an object whose row has another version by now raises ``sqlalchemy.orm.exc.StaleDataError``, which
    becomes a 409, or a 412 for a request with ``If-Match``. A model with ``__mapper_args__`` of its own keeps them.

    Raises TypeError when a model's ``__mapper_args__`` would turn the guard off.

    Source: SQLAlchemy manual, "Configuring a Version Counter".
    """

    version: Mapped[int] = mapped_column(Integer, nullable=False, server_default=text("1"), sort_order=902)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805  # called with the class
        return {} if _has_mapped_parent(cls) else {"version_id_col": cls.version}

    def __init_subclass__(cls, **options: Any) -> None:
        own = vars(cls).get("__mapper_args__")
        if isinstance(own, dict) and not _has_mapped_parent(cls):
            merged = {"version_id_col": VersionMixin.version, **cast("dict[str, Any]", own)}
            setattr(cls, "__mapper_args__", merged)  # noqa: B010  # of another type for the checkers
        super().__init_subclass__(**options)
        mapper = cast("Mapper[Any] | None", inspect(cls, raiseerr=False))
        if mapper is not None and mapper.version_id_col is None:
            raise TypeError(
                f"{cls.__name__}.__mapper_args__ turns optimistic locking off. Name VersionMixin before the "
                f'declarative base in class {cls.__name__}(...), or add "version_id_col" to its __mapper_args__.'
            )


def _has_mapped_parent(cls: Any) -> bool:
    """Whether a parent's mapper, which a child inherits the guard from, is there already."""
    return any("__mapper__" in vars(base) for base in cls.__mro__[1:])
