"""``FastAPI(lifespan=db.lifespan)``: the database is there before the first request and closed after the last."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from ..database import SQLAlchemy
from .middleware import DBSessionMiddleware
from .startup import start, told_in_one_line

__all__ = ["WAIT", "lifespan"]

WAIT = 10.0
"""Seconds to wait at startup for a database that cannot be reached yet."""


@asynccontextmanager
async def lifespan(database: SQLAlchemy, app: FastAPI) -> AsyncGenerator[None]:
    """Wait for the database, bring its tables up, put the middleware around the app, dispose at the end."""
    mode = database.migrations
    with told_in_one_line():
        await start(database.source, database.metadata, create=mode is None, wait=WAIT)
        if mode is not None:
            await anyio.to_thread.run_sync(SQLAlchemy.prepare, database, mode)
    _surround(app, database)
    try:
        yield
    finally:
        await database.source.release()


def _surround(app: FastAPI, database: SQLAlchemy) -> None:
    """Put the middleware into the stack that is running, unless it is there; nobody else's is made anew."""
    stack = app.middleware_stack
    if stack is None:
        if not any(_covers(entry, database) for entry in app.user_middleware):
            app.user_middleware.insert(0, Middleware(DBSessionMiddleware, db=database, create_tables=False))
    elif not any(isinstance(layer, DBSessionMiddleware) and database in layer.databases for layer in _layers(stack)):
        outermost = next((layer for layer in _layers(stack) if isinstance(layer, ServerErrorMiddleware)), None)
        if outermost is not None:
            outermost.app = DBSessionMiddleware(outermost.app, db=database, create_tables=False)
        else:
            app.middleware_stack = DBSessionMiddleware(stack, db=database, create_tables=False)


def _layers(stack: ASGIApp) -> Iterator[object]:
    layer: object = stack
    while layer is not None:
        yield layer
        layer = getattr(layer, "app", None)


def _covers(entry: Middleware, database: SQLAlchemy) -> bool:
    if cast(object, entry.cls) is not DBSessionMiddleware:
        return False
    given = entry.kwargs.get("db", entry.args[0] if entry.args else None)
    if isinstance(given, SQLAlchemy):
        return given is database
    return isinstance(given, (list, tuple)) and database in given
