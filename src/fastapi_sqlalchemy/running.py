"""Work of `SQLAlchemy.run`: off the event loop, alone in a scope or inside of one that is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import anyio.to_thread
import sqlalchemy.orm

from .engines.turns import writers_turn
from .scope import Scope, note_work
from .sessions import Session, run_async_callbacks
from .transactions import Unit, joined

__all__ = ["look_inside", "run_alone", "run_inside"]

T = TypeVar("T")


async def run_alone(scope: Scope, work: Callable[[Session], T], use_async: bool) -> T:
    """Open a scope, work in it, commit and close in one hop."""
    if scope.read_only:
        note_work(scope.interrupt)

    def in_worker() -> T:
        scope.push()
        try:
            return scope.perform(work, scope.session)
        finally:
            scope.close()

    if not use_async:
        if scope.writing and scope.source.dialect_name == "sqlite":
            async with writers_turn(str(scope.source.url.database), scope.source.config.pool_timeout):
                result = await anyio.to_thread.run_sync(in_worker)
        else:
            result = await anyio.to_thread.run_sync(in_worker)
        for ended in scope.sessions:
            await run_async_callbacks(ended)
        return result
    scope.push()
    try:
        session = scope.async_session
        result = await session.run_sync(lambda inner: scope.perform(work, _ours(inner)))
        await run_async_callbacks(session.sync_session)
        return result
    finally:
        scope.pop()
        await scope.close_async()


async def look_inside(scope: Scope, work: Callable[[Session], T], use_async: bool) -> T:
    """Work on the session of an open scope that sees what was written there, and is left as it is."""
    if use_async:
        return await scope.async_session.run_sync(lambda inner: scope.look(work, _ours(inner)))
    return await anyio.to_thread.run_sync(scope.look, work, scope.session)


async def run_inside(scope: Scope, work: Callable[[Session], T], use_async: bool, attempted: list[Unit] | None) -> T:
    """Work in a transaction or savepoint of an open scope, and note it in ``attempted`` where it may be repeated."""

    def join(session: Session) -> T:
        with joined(session, scope, retrying=attempted is not None) as unit:
            if attempted is not None:
                attempted.append(unit)
            return work(session)

    if use_async:
        session = scope.async_session
        result = await session.run_sync(lambda inner: join(_ours(inner)))
        await run_async_callbacks(session.sync_session)
        return result
    result = await anyio.to_thread.run_sync(join, scope.session)
    await run_async_callbacks(scope.session)
    return result


def _ours(session: sqlalchemy.orm.Session) -> Session:
    return cast(Session, session)
