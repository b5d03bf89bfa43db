"""``request_timeout``: every request has an answer by then, its statements end, and nothing of it is committed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.middleware.base import BaseHTTPMiddleware

from fastapi_sqlalchemy import DBSessionMiddleware, RequestTimeoutError, SessionClosedError, SQLAlchemy
from fastapi_sqlalchemy.exceptions import ConfigurationError
from tests.support.client import TestClient
from tests.support.doors import Door, count_rows, make_database

TIMEOUT = 0.2
STEPS = "WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < 900000000)"
SLOW = {
    "sqlite": f"{STEPS} SELECT max(n) FROM step",
    "postgresql": "SELECT pg_sleep(30)",
    "mysql": "SELECT SLEEP(30)",
}
RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND query LIKE 'SELECT pg_sleep(%'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'SELECT SLEEP(%'",
}


@pytest.fixture(params=[False, True], ids=["def", "async def"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def application(db: SQLAlchemy, *, asynchronous: bool, work: Callable[[Session], Any]) -> FastAPI:
    """``POST /`` does the work, by the middleware and by the dependency within it."""
    app = Door("middleware", asynchronous).app(db)
    for by in ("middleware", "dependency"):
        Door(by, asynchronous).route(app, db, f"/{by}", work)
    return app


def serve(app: FastAPI, db: SQLAlchemy) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.dispose()


def is_the_answer(response: Any) -> bool:
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    return response.json()["code"] == "timeout" and "took longer" in response.json()["detail"]


@pytest.mark.parametrize("by", ["middleware", "dependency"])
def test_a_slow_statement_ends_in_the_server_and_what_was_written_is_rolled_back(
    database_url: str, asynchronous: bool, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    db, Item = make_database(database_url, commit_on_exit=True, request_timeout=TIMEOUT)
    backend = db.url.get_backend_name().replace("mariadb", "mysql")

    def work(session: Session) -> None:
        session.add(Item(name="a"))
        session.flush()
        session.execute(sa.text(SLOW[backend]))

    for client in serve(application(db, asynchronous=asynchronous, work=work), db):
        with caplog.at_level(logging.WARNING, logger="fastapi_sqlalchemy"):
            assert is_the_answer(client.post(f"/{by}"))
        assert [record.getMessage() for record in caplog.records] == [
            f"POST /{by} has no answer after {TIMEOUT} s; it ends."
        ]
        assert count_rows(db, Item) == 0
        if backend in RUNNING:
            give_up = time.monotonic() + 10
            with db.engine.connect() as connection:
                while connection.scalar(sa.text(RUNNING[backend])):
                    assert time.monotonic() < give_up
                    time.sleep(0.01)


def test_a_thread_that_computes_is_answered_for_and_finds_its_session_closed(database_url: str) -> None:
    db, Item = make_database(database_url, commit_on_exit=True, request_timeout=TIMEOUT)
    answered, found, done = threading.Event(), list[Exception](), threading.Event()

    def work(session: Session) -> None:
        try:
            session.add(Item(name="a"))
            session.flush()
            answered.wait(30)
            session.commit()
        except Exception as error:
            found.append(error)
            raise
        finally:
            done.set()

    for client in serve(application(db, asynchronous=False, work=work), db):
        receive_answer(client, "/middleware", answered)
        assert done.wait(30)
        assert [type(error) for error in found] == [SessionClosedError]
        assert count_rows(db, Item) == 0


def receive_answer(client: TestClient, path: str, answered: threading.Event) -> None:
    """A test client returns when the application does; this one hears the answer before."""
    messages: list[Any] = []

    async def scenario() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)
            if message["type"] == "http.response.body":
                answered.set()

        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "server": ("test", 80),
            "scheme": "http",
        }
        await client.app(scope, receive, send)

    assert client.portal is not None
    client.portal.call(scenario)
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert messages[0]["status"] == 503


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "within a BaseHTTPMiddleware"])
def test_an_endpoint_that_waits_for_something_else_is_cancelled(sqlite_url: str, wrapped: bool) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True, request_timeout=TIMEOUT)
    app = FastAPI()
    if wrapped:

        async def dispatch(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/used")
    async def used() -> None:
        db.async_session.add(Item(name="a"))
        await db.async_session.flush()
        await asyncio.Event().wait()

    @app.post("/unused")
    async def unused() -> None:
        await asyncio.Event().wait()

    for client in serve(app, db):
        assert is_the_answer(client.post("/used"))
        assert is_the_answer(client.post("/unused"))
        assert count_rows(db, Item) == 0


def test_an_endpoint_that_takes_the_error_for_success_is_not_believed(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True, request_timeout=TIMEOUT)

    def work(session: Session) -> PlainTextResponse:
        session.add(Item(name="a"))
        with contextlib.suppress(OperationalError):
            session.execute(sa.text(SLOW["sqlite"]))
        return PlainTextResponse("done")

    app = application(db, asynchronous=False, work=work)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    for client in serve(app, db):
        response = client.post("/middleware", headers={"origin": "https://example.org"})
        assert is_the_answer(response)
        assert response.headers["access-control-allow-origin"] == "*"
        assert count_rows(db, Item) == 0


def test_a_commit_under_way_ends_one_way_or_the_other(postgres_url: str, asynchronous: bool) -> None:
    db, Item = make_database(postgres_url, commit_on_exit=True, request_timeout=TIMEOUT)
    app = application(db, asynchronous=asynchronous, work=lambda session: session.add(Item(name="a")))
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    for client in serve(app, db):
        response = client.post("/middleware")
        assert (response.status_code, response.json()["code"]) == (503, "timeout")
        assert count_rows(db, Item) == 0


def test_a_response_that_has_started_is_left_alone(sqlite_url: str) -> None:
    bound = 0.5
    db, Item = make_database(sqlite_url, commit_on_exit=True, request_timeout=bound)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    async def endpoint() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "begun, "
            await asyncio.sleep(1.5 * bound)
            db.async_session.add(Item(name="a"))
            await db.async_session.commit()
            yield "ended"

        return StreamingResponse(lines())

    for client in serve(app, db):
        response = client.post("/")
        assert (response.status_code, response.text) == (200, "begun, ended")
        assert count_rows(db, Item) == 1


def test_what_is_quick_does_not_notice(database_url: str, asynchronous: bool) -> None:
    db, Item = make_database(database_url, commit_on_exit=True, request_timeout=30)

    def work(session: Session) -> str:
        session.add(Item(name="a"))
        return "added"

    for client in serve(application(db, asynchronous=asynchronous, work=work), db):
        assert client.post("/middleware").json() == "added"
        assert count_rows(db, Item) == 1


def test_the_error_of_an_application_is_raised_on_after_the_answer(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url, request_timeout=TIMEOUT)

    def work(session: Session) -> None:
        try:
            session.execute(sa.text(SLOW["sqlite"]))
        finally:
            raise KeyError("a fault")

    app = application(db, asynchronous=False, work=work)
    with TestClient(app) as client, pytest.raises(KeyError, match="a fault"):
        client.post("/middleware")
    db.dispose()


def test_an_application_may_answer_in_its_own_words(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url, request_timeout=TIMEOUT)
    app = application(db, asynchronous=False, work=lambda session: session.execute(sa.text(SLOW["sqlite"])).scalar())

    @app.exception_handler(RequestTimeoutError)
    async def answer(request: Request, error: RequestTimeoutError) -> JSONResponse:
        return JSONResponse({"late": str(error)}, 503)

    for client in serve(app, db):
        response = client.post("/middleware")
        assert response.status_code == 503
        assert "request_timeout" in response.json()["late"]


def test_the_lifespan_holds_it_too(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url, request_timeout=TIMEOUT)
    app = FastAPI(lifespan=db.lifespan)
    Door("dependency", False).route(app, db, "/", lambda session: session.execute(sa.text(SLOW["sqlite"])).scalar())
    for client in serve(app, db):
        assert is_the_answer(client.post("/"))


@pytest.mark.parametrize("value", [0, -1, True, "5"])
def test_it_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="request_timeout is a number of seconds above 0"):
        SQLAlchemy("sqlite://", request_timeout=value)
