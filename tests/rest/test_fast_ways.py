"""The short way is taken where nobody can tell, and gives way by itself to everybody who looks or takes part."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from pydantic import BaseModel, computed_field
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

import fastapi_sqlalchemy
from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.calls import get

pytestmark = pytest.mark.anyio

PATHS = ("/item/7", "/item?limit=3", "/item?limit=3&count=exact", "/item?number__gte=3&sort=-number&limit=2")


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy executes meanwhile, in any thread: all of them come by one method."""
    executed: list[str] = []
    execute = Connection._execute_context

    def noting(
        self: Connection, dialect: Any, constructor: Any, statement: Any, *arguments: Any, **options: Any
    ) -> Any:
        executed.append(str(statement))
        return execute(self, dialect, constructor, statement, *arguments, **options)

    Connection._execute_context = noting  # type: ignore[method-assign]
    try:
        yield executed
    finally:
        Connection._execute_context = execute  # type: ignore[method-assign]


class System:
    """An application with one table of ten rows."""

    def __init__(self, url: str, **options: Any) -> None:
        self.db = SQLAlchemy(url, **options)

        class Item(self.db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            number: Mapped[int]

        self.Item = Item
        self.app = FastAPI()

    def serve(self, **options: Any) -> None:
        self.app.include_router(CRUDRouter(self.Item, db=self.db, **options))

    def fill(self) -> None:
        self.db.create_all()
        with self.db.engine.begin() as connection:
            rows = [{"id": number, "number": number} for number in range(1, 11)]
            connection.execute(sa.insert(self.Item.__table__), rows)

    async def goes_short(self, path: str) -> bool:
        """Whether the second of two equal requests goes past SQLAlchemy's connection."""
        first = await get(self.app, path)
        with statements() as executed:
            second = await get(self.app, path)
        assert first.status == second.status == 200
        assert (first.headers, first.body) == (second.headers, second.body)
        return not executed

    async def close(self) -> None:
        await self.db.adispose()


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'items.db'}"
    given: str = request.getfixturevalue("postgres_url")
    return given.replace("postgresql://", f"postgresql+{request.param}://")


@pytest.fixture
async def system(url: str) -> AsyncIterator[System]:
    found = System(url)
    found.fill()
    yield found
    await found.close()


@pytest.mark.parametrize("path", PATHS)
async def test_plain_reads_go_the_short_way(system: System, path: str) -> None:
    system.serve()
    assert await system.goes_short(path)


async def test_the_middleware_is_no_reason_to_give_way(system: System) -> None:
    system.app.add_middleware(DBSessionMiddleware, db=system.db)
    system.serve()
    for path in PATHS:
        assert await system.goes_short(path)


@contextmanager
def listening(target: Any, event: str) -> Iterator[None]:
    def listener(*_arguments: Any, **_options: Any) -> None:
        return None

    sa.event.listen(target, event, listener)
    try:
        yield
    finally:
        sa.event.remove(target, event, listener)


def engine_of(system: System) -> Any:
    return system.db.engine if system.db.url.get_backend_name() == "sqlite" else system.db.async_engine.sync_engine


@contextmanager
def logged(_system: System) -> Iterator[None]:
    logger = logging.getLogger("sqlalchemy.engine.Engine")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)


OBSERVERS: dict[str, Callable[[System], AbstractContextManager[Any]]] = {
    "engine events": lambda system: listening(engine_of(system), "before_cursor_execute"),
    "statement events": lambda system: listening(engine_of(system), "before_execute"),
    "events of all engines": lambda _: listening(sa.Engine, "after_cursor_execute"),
    "error events": lambda system: listening(engine_of(system), "handle_error"),
    "transaction events": lambda system: listening(engine_of(system), "begin"),
    "pool events": lambda system: listening(engine_of(system), "checkout"),
    "session events": lambda _: listening(fastapi_sqlalchemy.Session, "do_orm_execute"),
    "session transactions": lambda _: listening(sa.orm.Session, "after_begin"),
    "the log": logged,
}


@pytest.mark.parametrize("reason", OBSERVERS)
async def test_it_gives_way_to_who_listens_and_comes_back(system: System, reason: str) -> None:
    system.serve()
    assert await system.goes_short("/item/7")
    with OBSERVERS[reason](system):
        assert not await system.goes_short("/item/7")
        assert not await system.goes_short("/item?limit=3&count=exact")
    assert await system.goes_short("/item/7")


async def test_a_pool_made_anew_is_no_reason(system: System) -> None:
    system.serve()
    assert await system.goes_short("/item/7")
    await system.db.adispose()
    assert await system.goes_short("/item/7")


@pytest.mark.parametrize(
    "options",
    [
        {"engine_args": {"echo": True}},
        {"engine_args": {"execution_options": {"anything": 1}}},
        {"session_args": {"info": {"tenant": 1}}},
        {"session_args": {"execution_options": {"schema_translate_map": {}}}},
    ],
    ids=str,
)
async def test_it_gives_way_to_options(url: str, options: dict[str, Any]) -> None:
    system = System(url, **options)
    system.fill()
    system.serve()
    assert not await system.goes_short("/item/7")
    await system.close()


class Computed(BaseModel):
    id: int
    number: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.number


class Hooks:
    def after_read(self, _session: Any, _rows: Any) -> None:
        return None


def nothing() -> None:
    return None


@pytest.mark.parametrize("options", [{"read_schema": Computed}, {"hooks": Hooks()}], ids=["computed field", "hook"])
async def test_what_needs_python_is_done_by_it(system: System, options: dict[str, Any]) -> None:
    system.serve(**options)
    found = await get(system.app, "/item/7")
    assert (b"double" in found.body) == ("read_schema" in options)
    if "hooks" in options:
        assert not await system.goes_short("/item/7")


async def test_a_scope_query_is_asked_and_obeyed(system: System) -> None:
    asked: list[str] = []

    def mine() -> Any:
        asked.append("mine")
        return system.Item.number == 3

    system.serve(scope_query=mine)
    assert (await get(system.app, "/item/7")).status == 404
    assert (await get(system.app, "/item/3")).status == 200
    assert len(asked) == 2
    assert not await system.goes_short("/item/3")
    system.app.dependency_overrides[mine] = lambda: system.Item.number == 7
    assert (await get(system.app, "/item/7")).status == 200


@pytest.mark.parametrize("place", ["router", "operation", "include"])
async def test_dependencies_are_solved_and_may_be_overridden(system: System, place: str) -> None:
    asked: list[str] = []

    def guard() -> None:
        asked.append("guard")

    guards = [Depends(guard)]
    if place == "include":
        router = CRUDRouter(system.Item, db=system.db)
        system.app.include_router(router, dependencies=guards)
    elif place == "router":
        system.serve(dependencies=guards)
    else:
        system.serve(operation_dependencies={"read": guards})
    assert (await get(system.app, "/item/7")).status == 200
    assert asked == ["guard"]
    system.app.dependency_overrides[guard] = nothing
    assert (await get(system.app, "/item/7")).status == 200
    assert asked == ["guard"]


async def test_a_session_in_use_is_read_from(system: System) -> None:
    """A row that the request has written and not committed is seen by it."""
    system.serve()

    async def writing(scope: Any, receive: Any, send: Any) -> None:
        async with system.db():
            if system.db.url.get_backend_name() == "sqlite":
                system.db.session.execute(sa.insert(system.Item.__table__).values(id=11, number=11))
            else:
                await system.db.async_session.execute(sa.insert(system.Item.__table__).values(id=11, number=11))
            await system.app(scope, receive, send)

    assert (await get(system.app, "/item/7")).status == 200
    assert (await get(system.app, "/item/11")).status == 404
    assert (await get(writing, "/item/11")).status == 200


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_an_isolated_database_is_read_in_its_transaction(system: System) -> None:
    system.serve()
    with system.db.isolated():
        with system.db(commit_on_exit=True):
            system.db.session.add(system.Item(id=11, number=11))
        assert (await get(system.app, "/item/11")).status == 200
    assert (await get(system.app, "/item/11")).status == 404


@pytest.mark.parametrize("use_async", [True, False])
async def test_the_engine_that_was_chosen_is_used(system: System, use_async: bool) -> None:
    system.serve(use_async=use_async)
    sqlite = system.db.url.get_backend_name() == "sqlite"
    assert await system.goes_short("/item/7") == (use_async is not sqlite)


async def test_an_engine_of_the_users_is_left_to_sqlalchemy(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'own.db'}")
    system = System(f"sqlite:///{tmp_path / 'own.db'}", custom_engine=engine)
    system.fill()
    system.serve()
    assert not await system.goes_short("/item/7")
    engine.dispose()
