"""What an exception handler of the application finds: a request that is rolled back, and a database to write to."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door, count_rows, make_database


class Mine(Exception):
    pass


@pytest.fixture(params=DOORS, ids=str)
def door(request: pytest.FixtureRequest) -> Door:
    return request.param


def _fail(Item: Any, error: Exception | None = None) -> Any:
    def work(session: Session) -> None:
        session.add(Item(name="of the request"))
        session.flush()
        raise error or Mine

    return work


def _names(db: SQLAlchemy, Item: Any) -> list[str]:
    with db():
        return [item.name for item in Item.query]


@pytest.mark.parametrize(("key", "error"), [(Mine, Mine()), (Exception, Mine()), (409, HTTPException(409))])
@pytest.mark.parametrize("commit_on_exit", [False, True])
def test_it_writes_in_a_scope_of_its_own_while_the_request_holds_no_lock(
    sqlite_url: str, door: Door, commit_on_exit: bool, key: Any, error: Exception
) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=commit_on_exit, sqlite={"busy_timeout": 0.2})
    app = door.app(db)
    door.route(app, db, "/", _fail(Item, error))

    @app.exception_handler(key)
    def answer(request: Request, error: Exception) -> JSONResponse:
        with db():
            Item(name="of the handler").save()
        return JSONResponse({}, status_code=418)

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 418
    assert _names(db, Item) == ["of the handler"]


def test_an_async_one_does_so_too(sqlite_url: str, door: Door) -> None:
    db, Item = make_database(sqlite_url, sqlite={"busy_timeout": 0.2})
    app = door.app(db)
    door.route(app, db, "/", _fail(Item))

    @app.exception_handler(Mine)
    async def answer(request: Request, error: Exception) -> JSONResponse:
        async with db(commit_on_exit=True):
            db.async_session.add(Item(name="of the handler"))
        return JSONResponse({}, status_code=418)

    with TestClient(app) as client:
        assert client.post("/").status_code == 418
    assert _names(db, Item) == ["of the handler"]


def test_what_it_commits_is_its_own_work_and_not_that_of_the_request(database_url: str) -> None:
    door = DOORS[0]
    db, Item = make_database(database_url, commit_on_exit=True)
    app = door.app(db)
    door.route(app, db, "/", _fail(Item))

    @app.exception_handler(Mine)
    def answer(request: Request, error: Exception) -> JSONResponse:
        db.session.add(Item(name="of the handler"))
        db.session.commit()
        return JSONResponse({}, status_code=200)

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert _names(db, Item) == ["of the handler"]


@pytest.mark.parametrize("mounted", [False, True])
def test_a_session_that_an_inner_middleware_has_opened_is_rolled_back_too(sqlite_url: str, mounted: bool) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True, sqlite={"busy_timeout": 0.2})
    app = DOORS[0].app(db)
    inner = FastAPI() if mounted else app

    async def opened(request: Request, call_next: Any) -> Any:
        db.session.add(Item(name="of the request"))
        db.session.flush()
        return await call_next(request)

    app.user_middleware.append(Middleware(BaseHTTPMiddleware, dispatch=opened))

    @inner.post("/")
    def endpoint() -> None:
        assert Item.query.count() == 1
        raise Mine

    @inner.exception_handler(Mine)
    def answer(request: Request, error: Exception) -> JSONResponse:
        with db(commit_on_exit=True):
            db.session.add(Item(name="of the handler"))
        return JSONResponse({}, status_code=200)

    app.mount("/inner", inner) if mounted else None
    with TestClient(app) as client:
        assert client.post("/inner/" if mounted else "/").status_code == 200
    assert _names(db, Item) == ["of the handler"]


def test_the_exception_of_a_websocket_rolls_back_before_its_handler(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True, sqlite={"busy_timeout": 0.2})
    app = DOORS[0].app(db)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        _fail(Item)(db.session)

    @app.exception_handler(Mine)
    async def answer(websocket: WebSocket, error: Exception) -> None:
        with db():
            Item(name="of the handler").save()
        await websocket.close(4000)

    with TestClient(app) as client, client.websocket_connect("/") as websocket:
        assert websocket.receive()["code"] == 4000
    assert _names(db, Item) == ["of the handler"]


def test_a_websocket_that_is_refused_by_an_exception_commits_nothing(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = DOORS[0].app(db)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        _fail(Item, WebSocketException(1008))(db.session)

    with TestClient(app) as client, client.websocket_connect("/") as websocket:
        assert websocket.receive()["code"] == 1008
    assert count_rows(db, Item) == 0


def test_the_handlers_that_the_application_was_given_stay_its_own(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    app = DOORS[0].app(db)
    DOORS[0].route(app, db, "/", _fail(Item))

    def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, status_code=418)

    app.add_exception_handler(Mine, answer)
    with TestClient(app) as client:
        assert [client.post("/").status_code for _ in range(3)] == [418, 418, 418]
    assert app.exception_handlers[Mine] is answer
    assert count_rows(db, Item) == 0
