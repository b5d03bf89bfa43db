"""``db.get_session`` and ``db.get_async_session``: sessions that end before the response starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.exceptions import SessionClosedError
from tests.support.client import TestClient
from tests.support.doors import Door, count_rows, make_database

SCOPES = [{}, {"scope": "function"}, {"scope": "request"}]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def door(request: pytest.FixtureRequest) -> Door:
    return Door("dependency", request.param)


def _app(url: str, **options: Any) -> tuple[FastAPI, SQLAlchemy, Any]:
    db, Item = make_database(url, **options)
    db.create_all()
    return FastAPI(), db, Item


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failed_commit_is_the_response_whatever_the_scope_of_the_dependency(
    database_url: str, scope: dict[str, Any], asynchronous: bool
) -> None:
    app, db, Item = _app(database_url, commit_on_exit=True)
    ran: list[int] = []

    if asynchronous:

        @app.post("/", status_code=201)
        async def endpoint_async(
            tasks: BackgroundTasks, session: AsyncSession = Depends(db.get_async_session, **scope)
        ) -> dict[str, bool]:
            tasks.add_task(ran.append, 1)
            session.add_all([Item(name="a"), Item(name="a")])
            return {"stored": True}

    else:

        @app.post("/", status_code=201)
        def endpoint(tasks: BackgroundTasks, session: Session = Depends(db.get_session, **scope)) -> dict[str, bool]:
            tasks.add_task(ran.append, 1)
            session.add_all([Item(name="a"), Item(name="a")])
            return {"stored": True}

    with TestClient(app) as client:
        answer = client.post("/")
        assert (answer.status_code, answer.json()["code"]) == (409, "unique_violation")
        assert answer.json()["fields"] == ["name"]
    assert ran == []
    assert count_rows(db, Item) == 0


def test_a_failed_commit_goes_to_the_handler_of_the_application(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)
    app.add_exception_handler(sa.exc.IntegrityError, lambda request, error: PlainTextResponse("mine", 418))
    door.route(app, db, "/", lambda session: session.add_all([Item(name="a"), Item(name="a")]))
    with TestClient(app) as client:
        assert (client.post("/").status_code, client.post("/").text) == (418, "mine")


@pytest.mark.parametrize("at", ["app", "router", "route"])
def test_it_may_be_a_dependency_of_the_app_a_router_or_a_route(sqlite_url: str, at: str) -> None:
    from fastapi import APIRouter

    db, Item = make_database(sqlite_url, commit_on_exit=True)
    db.create_all()
    dependencies = [Depends(db.get_session)]
    app = FastAPI(dependencies=dependencies if at == "app" else [])
    router = APIRouter(dependencies=dependencies if at == "router" else [])

    @router.post("/", dependencies=dependencies if at == "route" else [])
    def endpoint() -> None:
        db.session.add_all([Item(name="a"), Item(name="a")])

    app.include_router(router)
    with TestClient(app) as client:
        assert client.post("/").status_code == 409


def test_the_model_helpers_work_behind_the_dependency(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    if door.asynchronous:

        @app.post("/", dependencies=[Depends(db.get_async_session)])
        async def endpoint_async() -> str:
            await Item.anew(name="a")
            return str((await Item.aget_or_404(name="a")).name)

    else:

        @app.post("/", dependencies=[Depends(db.get_session)])
        def endpoint() -> str:
            Item.new(name="a")
            return str(Item.query.one().name)

    with TestClient(app) as client:
        assert client.post("/").json() == "a"
    assert count_rows(db, Item) == 1


def test_the_response_is_made_while_the_session_is_open_so_that_relations_load(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url)
    with db():
        Item.new(name="a")

    class Lazy:
        def __init__(self, session: Any) -> None:
            self.session = session

        @property
        def name(self) -> str:
            return str(self.session.query(Item).one().name)

    from pydantic import BaseModel

    class Out(BaseModel):
        name: str

    @app.get("/", response_model=Out)
    def endpoint(session: Session = Depends(db.get_session)) -> Any:
        return {"name": Lazy(session).name}

    with TestClient(app) as client:
        assert client.get("/").json() == {"name": "a"}


def test_a_dependency_that_the_user_yields_from_sees_its_error_and_may_still_write(sqlite_url: str) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    def audited(session: Session = Depends(db.get_session)) -> Iterator[Session]:
        yield session
        session.add(Item(name="audit"))

    @app.post("/")
    def endpoint(session: Session = Depends(audited, scope="function")) -> None:
        session.add(Item(name="a"))

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert count_rows(db, Item) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_behind_the_dependency_alone_gets_an_error_that_names_the_cure(
    sqlite_url: str, asynchronous: bool
) -> None:
    app, db, Item = _app(sqlite_url)

    if asynchronous:

        @app.get("/")
        async def endpoint_async(session: AsyncSession = Depends(db.get_async_session)) -> StreamingResponse:
            async def rows() -> AsyncIterator[str]:
                for item in await session.scalars(sa.select(Item)):
                    yield item.name

            return StreamingResponse(rows())

    else:

        @app.get("/")
        def endpoint(session: Session = Depends(db.get_session)) -> StreamingResponse:
            return StreamingResponse(item.name for item in session.scalars(sa.select(Item)) if item)

        @app.get("/later")
        def endpoint_later(session: Session = Depends(db.get_session)) -> StreamingResponse:
            def rows() -> Iterator[str]:
                yield from (item.name for item in session.scalars(sa.select(Item)))

            return StreamingResponse(rows())

    with TestClient(app) as client, pytest.raises(SessionClosedError, match="DBSessionMiddleware"):
        client.get("/" if asynchronous else "/later")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_background_task_behind_the_dependency_alone_gets_an_error_that_names_the_cure(
    sqlite_url: str, asynchronous: bool
) -> None:
    app, db, Item = _app(sqlite_url)

    if asynchronous:

        @app.post("/")
        async def endpoint_async(tasks: BackgroundTasks, session: AsyncSession = Depends(db.get_async_session)) -> None:
            async def later() -> None:
                await session.scalars(sa.select(Item))

            tasks.add_task(later)

    else:

        @app.post("/")
        def endpoint(tasks: BackgroundTasks, session: Session = Depends(db.get_session)) -> None:
            tasks.add_task(lambda: session.add(Item(name="late")))

    with TestClient(app) as client, pytest.raises(SessionClosedError, match="scope of its own"):
        client.post("/")
    assert count_rows(db, Item) == 0


def test_a_background_task_with_a_scope_of_its_own_works(sqlite_url: str) -> None:
    app, db, Item = _app(sqlite_url)

    @app.post("/")
    def endpoint(tasks: BackgroundTasks, session: Session = Depends(db.get_session)) -> None:
        @db.sync_context
        def later() -> None:
            Item.new(name="late")

        tasks.add_task(later)

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert count_rows(db, Item) == 1


@pytest.mark.parametrize("end", ["clean", "error"])
def test_a_websocket_has_a_session_that_ends_with_it(sqlite_url: str, end: str) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    @app.websocket("/")
    async def talk(websocket: WebSocket, session: AsyncSession = Depends(db.get_async_session)) -> None:
        await websocket.accept()
        session.add(Item(name="a"))
        await session.flush()
        await websocket.send_text("ready")
        if end == "error":
            raise KeyError
        await websocket.close()

    with TestClient(app) as client:
        if end == "error":
            with pytest.raises(KeyError), client.websocket_connect("/") as websocket:
                websocket.receive_text()
                websocket.receive_text()
        else:
            with client.websocket_connect("/") as websocket:
                assert websocket.receive_text() == "ready"
    assert count_rows(db, Item) == (1 if end == "clean" else 0)


def test_it_can_be_overridden_in_tests(sqlite_url: str) -> None:
    app, db, _ = _app(sqlite_url)
    assert db.get_session is db.get_session
    app.dependency_overrides[db.get_session] = lambda: "another"

    @app.get("/")
    def endpoint(session: Any = Depends(db.get_session)) -> str:
        return str(session)

    with TestClient(app) as client:
        assert client.get("/").json() == "another"


def test_it_is_not_a_parameter_in_openapi(sqlite_url: str, door: Door) -> None:
    app, db, _ = _app(sqlite_url)
    door.route(app, db, "/", lambda session: None)
    operation = app.openapi()["paths"]["/"]["post"]
    assert "parameters" not in operation
    assert set(operation["responses"]) == {"200"}


def test_two_databases_behind_dependencies_keep_their_own(tmp_path: Any) -> None:
    (one, First), (two, Second) = (
        make_database(f"sqlite:///{tmp_path}/{name}.db", commit_on_exit=True) for name in ("one", "two")
    )
    app = FastAPI()
    for db in (one, two):
        db.create_all()

    @app.post("/")
    def endpoint(first: Session = Depends(one.get_session), second: Session = Depends(two.get_session)) -> None:
        first.add(First(name="a"))
        second.add_all([Second(name="b"), Second(name="c")])

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert (count_rows(one, First), count_rows(two, Second)) == (1, 2)


def test_abort_works_where_a_response_object_cannot_be_seen(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    def work(session: Any) -> JSONResponse:
        session.add(Item(name="a"))
        session.flush()
        db.abort()
        return JSONResponse({}, status_code=409)

    door.route(app, db, "/", work)
    with TestClient(app) as client:
        assert client.post("/").status_code == 409
    assert count_rows(db, Item) == 0


def test_an_error_of_another_dependency_rolls_back(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    def write(session: Session = Depends(db.get_session)) -> None:
        session.add(Item(name="a"))
        session.flush()

    def refuse() -> None:
        raise HTTPException(403)

    door.route(app, db, "/", lambda session: None, dependencies=[Depends(write), Depends(refuse)])
    with TestClient(app) as client:
        assert client.post("/").status_code == 403
    assert count_rows(db, Item) == 0


def test_a_response_that_does_not_serialize_rolls_back(sqlite_url: str, door: Door) -> None:
    app, db, Item = _app(sqlite_url, commit_on_exit=True)

    def endpoint(session: Session = Depends(db.get_session)) -> Any:
        session.add(Item(name="a"))
        session.flush()
        return {"number": "not a number"}

    app.add_api_route("/", endpoint, methods=["POST"], response_model=dict[str, int])
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 500
    assert count_rows(db, Item) == 0


def test_without_the_middleware_another_error_stays_what_it_is(sqlite_url: str, door: Door) -> None:
    app, db, _ = _app(sqlite_url)

    @app.exception_handler(OSError)
    async def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 418)

    def fail(session: Any) -> None:
        raise FileNotFoundError

    door.route(app, db, "/", fail)
    with TestClient(app) as client:
        assert client.post("/").status_code == 418
