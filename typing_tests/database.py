"""What type checkers see of a database: sessions, engines, scopes, transactions and `run`."""

from __future__ import annotations

from typing import assert_type

import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_sqlalchemy import AsyncSession, Session, SQLAlchemy
from fastapi_sqlalchemy import db as module_database

from .models import User

db = SQLAlchemy("sqlite://", commit_on_exit=True, connect_timeout=2.5, sqlite={"busy_timeout": 1})

assert_type(module_database, SQLAlchemy)
assert_type(db.session, Session)
assert_type(db.sync_session, Session)
assert_type(db.async_session, AsyncSession)
assert_type(db.engine, Engine)
assert_type(db.async_engine, AsyncEngine)
assert_type(db.url, URL)
assert_type(db.metadata, MetaData)
assert_type(db.initiated, bool)

plain: sqlalchemy.orm.Session = db.session
plain_async: sqlalchemy.ext.asyncio.AsyncSession = db.async_session


def querying() -> None:
    assert_type(db.session.get(User, 1), User | None)
    db.create_all()
    db.drop_all(confirmed=True)
    db.dispose()
    db.abort()
    db.on_commit(db.dispose)


def scopes() -> None:
    with db() as opened:
        assert_type(opened, SQLAlchemy)
    with db(commit_on_exit=True, session_args={"autoflush": False}) as opened:
        assert_type(opened.session, Session)
    with db.read_only() as opened:
        assert_type(opened, SQLAlchemy)
    with db.transaction() as session:
        assert_type(session, Session)


async def async_scopes() -> None:
    async with db() as opened:
        assert_type(opened, SQLAlchemy)
        assert_type(await opened.async_session.get(User, 1), User | None)
    async with db.transaction() as session:
        assert_type(session, AsyncSession)
    await db.acreate_all()
    await db.adispose()


@db.sync_context
def count(factor: int, *, offset: int = 0) -> int:
    return factor + offset


@db.async_context
async def name_of(key: int) -> str | None:
    user = await User.aget(key)
    return None if user is None else user.name


@db.transaction(retries=3)
def rename(key: int, name: str) -> User:
    return User.get_or_404(key).update(name=name)


@db.transaction(retries=3)
async def rename_async(key: int, name: str) -> User:
    return await (await User.aget_or_404(key)).aupdate(name=name)


def names(session: sqlalchemy.orm.Session) -> list[str]:
    return list(session.scalars(select(User.name)))


async def decorated() -> None:
    assert_type(count(2, offset=1), int)
    assert_type(await name_of(1), str | None)
    assert_type(rename(1, "a"), User)
    assert_type(await rename_async(1, "a"), User)
    assert_type(await db.run(names), list[str])
    assert_type(await db.run(lambda session: session.get(User, 1), read_only=True), User | None)
