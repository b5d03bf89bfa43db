"""advanced-alchemy's service and repository as its documentation writes them, in an environment of its own."""

from collections.abc import AsyncIterator
from typing import Annotated

from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, SQLAlchemyAsyncConfig, filters, repository, service
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.models import User, UserIn, UserOut
from benchmarks.urls import async_url

app = FastAPI()
alchemy = AdvancedAlchemy(
    config=SQLAlchemyAsyncConfig(connection_string=async_url(), commit_mode="autocommit"), app=app
)


class UserService(service.SQLAlchemyAsyncRepositoryService[User]):
    class Repository(repository.SQLAlchemyAsyncRepository[User]):
        model_type = User

    repository_type = Repository


async def provide_users(
    session: Annotated[AsyncSession, Depends(alchemy.provide_session())],
) -> AsyncIterator[UserService]:
    async with UserService.new(session=session) as users:
        yield users


Users = Annotated[UserService, Depends(provide_users)]


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
async def read_user(user_id: int, users: Users) -> UserOut:
    return users.to_schema(await users.get(user_id), schema_type=UserOut)


@app.get("/users", response_model=list[UserOut])
async def read_users(users: Users, limit: int = 100) -> list[UserOut]:
    order = filters.OrderBy("id", "asc")
    found = await users.list(filters.LimitOffset(limit, 0), order)
    return list(users.to_schema(found, schema_type=UserOut).items)


@app.post("/users", response_model=UserOut, status_code=201)
async def create_user(new: UserIn, users: Users) -> UserOut:
    return users.to_schema(await users.create(new.model_dump()), schema_type=UserOut)
