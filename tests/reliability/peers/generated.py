"""FastCRUD's generated routes, with a session by dependency."""

from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException
from fastcrud import crud_router  # type: ignore[import-not-found]  # in an environment of its own
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.reliability.peers.tables import POOL, URL, Item, ItemIn, ItemOut

engine = create_async_engine(URL, **POOL)
make_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with make_session() as session:
        yield session


@app.post("/refused")
async def refused(new: ItemIn, session: AsyncSession = Depends(get_session)) -> None:
    session.add(Item(**new.model_dump()))
    await session.flush()
    raise HTTPException(409)


@app.get("/pause")
async def pause(session: AsyncSession = Depends(get_session)) -> None:
    await session.execute(text("SELECT pg_sleep(0.015)"))


@app.get("/checked-out")
async def checked_out() -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]  # a QueuePool


app.include_router(
    crud_router(
        session=get_session,
        model=Item,
        create_schema=ItemIn,
        update_schema=ItemIn,
        select_schema=ItemOut,
        path="/items",
    )
)
