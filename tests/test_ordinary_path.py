"""A route that people write themselves is cheaper with our session than with the tutorial's, in counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.calls import counted, get

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase): ...


class Item(Base):
    __tablename__ = "ordinary_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def application(dependency: Callable[..., Any]) -> FastAPI:
    app = FastAPI()

    @app.get("/item/{item_id}")
    async def read(item_id: int, session: AsyncSession = Depends(dependency)) -> dict[str, Any]:
        item = await session.get(Item, item_id)
        assert item is not None
        return {"id": item.id, "name": item.name}

    return app


async def calls_of(app: FastAPI) -> int:
    for _ in range(5):
        assert (await get(app, "/item/1")).body == b'{"id":1,"name":"one"}'
    with counted() as calls:
        await get(app, "/item/1")
    return calls.total()


async def test_a_read_by_async_def_makes_fewer_calls_than_hand_written_code(
    postgres_url: str, figure: Callable[..., None]
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    db, engine = SQLAlchemy(url), create_async_engine(url)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def hand_written() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(Item.__table__.insert().values(id=1, name="one"))  # type: ignore[attr-defined]
    bound = await calls_of(application(hand_written))
    calls = await calls_of(application(db.get_async_session))
    figure("SPEED", variant="own async def route", n=1, failures=int(calls > bound), calls=calls, bound=bound)
    assert calls < bound
    await engine.dispose()
    await db.adispose()


@pytest.mark.parametrize("name", ["get_session", "get_async_session", "get_read_only_session"])
def test_a_session_is_one_dependency_for_fastapi_to_solve(name: str, sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    app = application(getattr(db, name))
    (route,) = (route for route in app.routes if isinstance(route, APIRoute))
    (session,) = route.dependant.dependencies
    assert session.dependencies == []
    db.dispose()


async def test_both_sessions_of_a_request_are_of_one_scope(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    app = FastAPI()

    @app.get("/")
    async def both(
        session: Any = Depends(db.get_session),
        again: Any = Depends(db.get_session, use_cache=False),
        asynchronous: Any = Depends(db.get_async_session),
        reader: Any = Depends(db.get_read_only_session),
    ) -> list[bool]:
        same = [session is again, session is db.session, asynchronous is db.async_session]
        return [*same, reader is not session, len({id(db.scope.session), id(session)}) == 1]

    for _ in range(2):
        assert (await get(app, "/")).body == b"[true,true,true,true,true]"
    await db.adispose()
