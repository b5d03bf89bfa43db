"""Gives `SQLAlchemy` its dependencies and its lifespan, which stand on a lower layer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from ..database import SQLAlchemy
from ..sessions import AsyncSession, Session
from . import dependencies
from .lifespan import lifespan

__all__ = ["install"]


class _Doors:
    def session_dependency(
        self, database: SQLAlchemy, *, read_only: bool = False
    ) -> Callable[..., Coroutine[Any, Any, Session]]:
        return dependencies.session_dependency(database, read_only=read_only)

    def async_session_dependency(
        self, database: SQLAlchemy, *, read_only: bool = False
    ) -> Callable[..., Coroutine[Any, Any, AsyncSession]]:
        return dependencies.async_session_dependency(database, read_only=read_only)

    def lifespan(self, database: SQLAlchemy, app: FastAPI) -> AbstractAsyncContextManager[None]:
        return lifespan(database, app)


def install() -> None:
    """Install the web layer's doors."""
    SQLAlchemy.doors = _Doors()
