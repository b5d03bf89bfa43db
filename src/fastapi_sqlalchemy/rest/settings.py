"""What a router was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..database import SQLAlchemy
from .dialects.identity import Identity
from .dialects.words import Dialect
from .hooks import Hooks
from .query.settings import DEFAULTS, QuerySettings
from .resource import Resource

__all__ = ["OPERATIONS", "RouterSettings"]

OPERATIONS = (
    "list",
    "create",
    "read",
    "update",
    "replace",
    "delete",
    "upsert",
    "bulk_update",
    "bulk_delete",
    "aggregate",
)


@dataclass(frozen=True)
class RouterSettings:
    """The options of one router, checked; see :class:`CRUDRouter`. Sizes are rows."""

    db: SQLAlchemy
    resource: Resource
    hooks: Hooks
    query: QuerySettings = DEFAULTS
    envelope: bool = False
    max_affected: int = 1000
    require_if_match: bool = False
    scope_query: Callable[..., Any] | None = None
    read_schema: type[BaseModel] | None = None
    create_schema: type[BaseModel] | None = None
    update_schema: type[BaseModel] | None = None
    use_async: bool | None = None
    dialects: tuple[Dialect, ...] = ()
    identity: Identity | None = None
