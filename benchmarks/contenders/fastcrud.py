"""FastCRUD's generated routes, in an environment of its own."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastcrud import crud_router
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.models import User, UserIn, UserOut
from benchmarks.urls import async_url

engine = create_async_engine(async_url())
make_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with make_session() as session:
        yield session


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


app.include_router(
    crud_router(
        session=get_session,
        model=User,
        create_schema=UserIn,
        update_schema=UserIn,
        select_schema=UserOut,
        path="/users",
    )
)
