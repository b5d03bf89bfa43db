"""What type checkers see at the doors of an application: dependencies, middleware, lifespan and routers."""

from __future__ import annotations

from typing import Annotated, assert_type

import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import select

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter

from .models import User, db

other = SQLAlchemy("sqlite://")
app = FastAPI(lifespan=db.lifespan)
app.add_middleware(DBSessionMiddleware, db=db)
app.add_middleware(DBSessionMiddleware, db=[db, other])
app.add_middleware(DBSessionMiddleware, db=(db, other), commit_on_exit=True)
app.add_middleware(DBSessionMiddleware, db_url="sqlite://", engine_args={"echo": True}, session_args={})
app.add_middleware(DBSessionMiddleware, "sqlite://")
app.add_middleware(DBSessionMiddleware, custom_engine=other.engine)

router = CRUDRouter(User, db=db, prefix="/users", page_size=20)
as_router: APIRouter = router
app.include_router(router)


@app.get("/users/{key}")
def read(key: int, session: Annotated[Session, Depends(db.get_session)]) -> str:
    user = session.get(User, key)
    assert_type(user, User | None)
    return "" if user is None else user.name


@app.get("/plain/{key}")
def read_plain(key: int, session: Annotated[sqlalchemy.orm.Session, Depends(db.get_session)]) -> str | None:
    return session.scalar(select(User.name).where(User.id == key))


@app.get("/async/{key}")
async def read_async(key: int, session: Annotated[AsyncSession, Depends(db.get_async_session)]) -> str | None:
    return await session.scalar(select(User.name).where(User.id == key))


@app.get("/defaults/{key}")
async def read_default(
    key: int, session: sqlalchemy.ext.asyncio.AsyncSession = Depends(db.get_async_session)
) -> str | None:
    return await session.scalar(select(User.name).where(User.id == key))


async def by_hand() -> None:
    session = await db.get_session()
    assert_type(session, Session)
    async_session = await db.get_async_session()
    assert_type(async_session, AsyncSession)
