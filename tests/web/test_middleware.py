"""`DBSessionMiddleware`: what it takes, what it answers, and what it keeps alive for how long."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from sqlalchemy.orm import Mapped, Session, mapped_column
from starlette.middleware.base import BaseHTTPMiddleware

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy import db as module_db
from fastapi_sqlalchemy.exceptions import AmbiguousDatabaseError, ConfigurationError
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door, count_rows, make_database

NOTHING_GIVEN = "You need to pass a db_url or a custom_engine parameter."


async def _nothing(scope: Any, receive: Any, send: Any) -> None: ...


# What it takes.


@pytest.mark.parametrize("arguments", [{}, {"db_url": None}, {"db": None}, {"db_url": ""}, {"commit_on_exit": True}])
def test_without_a_database_one_error_is_both_a_value_error_and_a_type_error(arguments: dict[str, Any]) -> None:
    for kind in (ValueError, TypeError):
        with pytest.raises(kind) as caught:
            DBSessionMiddleware(_nothing, **arguments)
        assert str(caught.value) == NOTHING_GIVEN


@pytest.mark.parametrize("given", [{"db": []}, {"db": [1]}, {"db": object()}])
def test_db_takes_databases_only(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="db takes a SQLAlchemy object or a sequence of them"):
        DBSessionMiddleware(_nothing, **given)


def test_an_unknown_option_is_named(sqlite_url: str) -> None:
    with pytest.raises(TypeError, match="pool_sise"):
        DBSessionMiddleware(_nothing, db_url=sqlite_url, pool_sise=5)  # type: ignore[call-arg]


def test_options_of_an_engine_belong_to_the_database_that_is_given(sqlite_url: str) -> None:
    with pytest.raises(TypeError, match="together with db="):
        DBSessionMiddleware(_nothing, db=SQLAlchemy(sqlite_url), engine_args={"echo": True})


def test_it_is_a_base_http_middleware_for_those_who_ask() -> None:
    assert issubclass(DBSessionMiddleware, BaseHTTPMiddleware)
    assert isinstance(DBSessionMiddleware(_nothing, db=SQLAlchemy("sqlite://")), BaseHTTPMiddleware)


@pytest.mark.parametrize("how", ["db_url", "positional url", "custom_engine", "positional db", "list", "tuple"])
def test_every_way_to_name_the_database_serves_requests(sqlite_url: str, how: str) -> None:
    db, _ = make_database(sqlite_url)
    app = FastAPI()
    used = db
    if how == "db_url":
        app.add_middleware(DBSessionMiddleware, db_url=sqlite_url)
    elif how == "positional url":
        app.add_middleware(DBSessionMiddleware, sqlite_url)
    elif how == "custom_engine":
        app.add_middleware(DBSessionMiddleware, custom_engine=sa.create_engine(sqlite_url))
    elif how == "positional db":
        app.add_middleware(DBSessionMiddleware, db)
    else:
        app.add_middleware(DBSessionMiddleware, db=[db, db] if how == "list" else (db,))
    if how in ("db_url", "positional url", "custom_engine"):
        used = module_db

    @app.get("/")
    def endpoint() -> int:
        return used.session.scalar(sa.text("SELECT 41 + 1")) or 0

    with TestClient(app) as client:
        assert client.get("/").json() == 42
    del app, client
    gc.collect()


def test_options_reach_the_sessions(sqlite_url: str) -> None:
    app = FastAPI()
    app.add_middleware(
        DBSessionMiddleware,
        db_url=sqlite_url,
        engine_args={"execution_options": {"mark": "engine"}},
        session_args={"autoflush": False},
    )

    @app.get("/")
    def endpoint() -> list[Any]:
        session = module_db.session
        return [session.autoflush, session.connection().get_execution_options()["mark"]]

    with TestClient(app) as client:
        assert client.get("/").json() == [False, "engine"]


def test_commit_on_exit_of_the_middleware_overrides_that_of_the_database(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db, commit_on_exit=False)

    @app.post("/")
    def endpoint() -> None:
        db.session.add(Item(name="a"))
        db.session.flush()

    with TestClient(app) as client:
        client.post("/")
    assert count_rows(db, Item) == 0


# Rule 10: two applications with a URL each share the module-level db and never cross.


class _Model(module_db.Base):
    __tablename__ = "middleware_test_model"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]


def _app_of(url: str, owner: str) -> FastAPI:
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db_url=url, commit_on_exit=True)

    @app.post("/")
    def create() -> None:
        _Model.new(owner=owner)

    @app.get("/")
    def owners() -> list[str]:
        return sorted({row.owner for row in _Model.get_all()})

    return app


@pytest.mark.parametrize("in_memory", [False, True])
def test_two_applications_with_a_url_each_never_cross(tmp_path: Any, in_memory: bool) -> None:
    urls = ["sqlite://", "sqlite://"] if in_memory else [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    with TestClient(_app_of(urls[0], "a")) as first, TestClient(_app_of(urls[1], "b")) as second:
        for _ in range(20):
            assert first.post("/").status_code == second.post("/").status_code == 200
        assert (first.get("/").json(), second.get("/").json()) == (["a"], ["b"])
        if not in_memory:
            with pytest.raises(AmbiguousDatabaseError, match="one `SQLAlchemy"), module_db():
                pass
    del first, second
    gc.collect()


def test_outside_of_requests_the_module_level_db_is_that_of_the_one_application(sqlite_url: str) -> None:
    with TestClient(_app_of(sqlite_url, "a")) as client:
        with module_db(commit_on_exit=True):
            _Model.new(owner="script")
        client.post("/")
        assert client.get("/").json() == ["a", "script"]
    del client
    gc.collect()


@pytest.mark.parametrize("with_lifespan_of", ["the module-level db", "another database"])
def test_a_lifespan_beside_a_url_keeps_one_database(tmp_path: Any, with_lifespan_of: str) -> None:
    other, _Item = make_database(f"sqlite:///{tmp_path}/other.db", commit_on_exit=True)
    lifespan = module_db.lifespan if with_lifespan_of == "the module-level db" else other.lifespan
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(DBSessionMiddleware, db_url=f"sqlite:///{tmp_path}/app.db", commit_on_exit=True)

    @app.post("/")
    def create() -> None:
        _Model.new(owner="a")

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
        with module_db():
            assert len(_Model.get_all()) == 1
    del app, client, create
    gc.collect()


# Rule 4: a commit that fails is the response.


def _deferred(db: SQLAlchemy) -> tuple[Any, Any]:
    """A table whose foreign key is checked by COMMIT, and the one it refers to."""

    class Parent(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(
            sa.ForeignKey("parent.id", deferrable=True, initially="DEFERRED"), nullable=False
        )

    return Parent, Child


def _base_http(app: FastAPI) -> None:
    class Inner(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app.add_middleware(Inner)


def _decorated(app: FastAPI) -> None:
    @app.middleware("http")
    async def inner(request: Request, call_next: Any) -> Any:
        return await call_next(request)


NEIGHBOURS: dict[str, Callable[[FastAPI], None]] = {
    "BaseHTTPMiddleware": _base_http,
    "app.middleware": _decorated,
    "gzip": lambda app: app.add_middleware(GZipMiddleware, minimum_size=1),
    "cors": lambda app: app.add_middleware(CORSMiddleware, allow_origins=["*"]),
}


@pytest.mark.parametrize("handler", ["default", "own", "own sync"])
@pytest.mark.parametrize("position", ["inside", "outside"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_a_failed_commit_is_answered_through_every_neighbour_and_nothing_runs_after_it(
    sqlite_url: str, neighbour: str, position: str, handler: str
) -> None:
    db = SQLAlchemy(sqlite_url, commit_on_exit=True)
    Parent, Child = _deferred(db)
    app = FastAPI()
    if position == "inside":
        NEIGHBOURS[neighbour](app)
        app.add_middleware(DBSessionMiddleware, db=db)
    else:
        app.add_middleware(DBSessionMiddleware, db=db)
        NEIGHBOURS[neighbour](app)
    if handler == "own":

        @app.exception_handler(sa.exc.IntegrityError)
        async def mine(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"path": request.url.path}, status_code=418)

    elif handler == "own sync":

        @app.exception_handler(sa.exc.DBAPIError)
        def mine_sync(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"path": request.url.path}, status_code=418)

    ran: list[str] = []

    @app.post("/commit")
    def at_commit(tasks: BackgroundTasks) -> dict[str, str]:
        tasks.add_task(ran.append, "background")
        db.session.add(Child(id=1, parent_id=99))
        return {"long": "x" * 2000}

    @app.post("/flush")
    def at_flush() -> None:
        db.session.execute(sa.insert(Parent).values(id=1))
        db.session.execute(sa.insert(Parent).values(id=1))

    with TestClient(app) as client:
        for path in ("/commit", "/flush"):
            answer = client.post(path, headers={"Origin": "http://browser"})
            if handler == "default":
                assert (answer.status_code, answer.json()["status"]) == (409, 409)
                assert answer.headers["content-type"] == "application/problem+json"
            else:
                assert (answer.status_code, answer.json()) == (418, {"path": path})
            if neighbour == "cors":
                assert answer.headers["access-control-allow-origin"] == "*"
    assert ran == []
    assert (count_rows(db, Child), count_rows(db, Parent)) == (0, 0)


@pytest.mark.parametrize("door", DOORS, ids=str)
@pytest.mark.parametrize("handler_of", ["nobody", "the mounted app", "the root app"])
def test_a_failed_commit_in_a_mounted_app_is_answered(sqlite_url: str, door: Door, handler_of: str) -> None:
    db = SQLAlchemy(sqlite_url, commit_on_exit=True)
    _, Child = _deferred(db)
    app = door.app(db)
    mounted = FastAPI()
    app.mount("/mounted", mounted)
    handles = {"the mounted app": mounted, "the root app": app}.get(handler_of)
    if handles is not None:
        handles.add_exception_handler(sa.exc.IntegrityError, lambda request, error: PlainTextResponse("", 418))
    door.route(mounted, db, "/", lambda session: session.add(Child(id=1, parent_id=99)))
    with TestClient(app) as client:
        expected = (409, 418) if handler_of == "the root app" else (409,) if handles is None else (418,)
        assert client.post("/mounted/").status_code in expected
    assert count_rows(db, Child) == 0


def test_an_error_of_the_endpoint_goes_to_its_own_handler(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.exception_handler(KeyError)
    def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("handled", 200)

    @app.post("/")
    def endpoint() -> None:
        Item.new(name="a")
        raise KeyError

    with TestClient(app) as client:
        assert client.post("/").text == "handled"


def test_an_error_that_nobody_handles_stays_what_it_is(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    class Mine(Exception):
        pass

    @app.post("/")
    def endpoint() -> None:
        Item.new(name="a")
        raise Mine

    with TestClient(app) as client, pytest.raises(Mine):
        client.post("/")
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/").status_code == 500
    assert count_rows(db, Item) == 0


# Rule 7: what runs later has a live session.


@pytest.mark.parametrize("commit_on_exit", [False, True])
def test_streams_sync_and_async_have_a_live_session_and_leak_nothing(database_url: str, commit_on_exit: bool) -> None:
    db, Item = make_database(database_url, commit_on_exit=commit_on_exit)
    db.create_all()
    with db(commit_on_exit=True):
        db.session.add_all([Item(name=str(number)) for number in range(20)])
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/sync")
    def in_threads() -> StreamingResponse:
        def rows() -> Iterator[str]:
            for item in db.session.scalars(sa.select(Item).order_by(Item.id).execution_options(yield_per=5)):
                yield item.name

        return StreamingResponse(rows())

    @app.get("/cursor")
    def with_a_cursor_of_the_endpoint() -> StreamingResponse:
        items = db.session.scalars(sa.select(Item).order_by(Item.id).execution_options(yield_per=5))
        return StreamingResponse(item.name for item in items)

    @app.get("/async")
    async def in_the_loop() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async for item in await db.async_session.stream_scalars(sa.select(Item).order_by(Item.id)):
                yield item.name

        return StreamingResponse(rows())

    with TestClient(app) as client:
        for path in ("/sync", "/cursor", "/async"):
            assert client.get(path).text == "".join(map(str, range(20)))


def test_a_stream_that_fails_leaks_nothing(database_url: str) -> None:
    db, Item = make_database(database_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/")
    def endpoint() -> StreamingResponse:
        def rows() -> Iterator[str]:
            yield str(db.session.query(Item).count())
            raise KeyError

        return StreamingResponse(rows())

    with TestClient(app) as client, pytest.raises(KeyError):
        client.get("/")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_background_tasks_have_a_live_session_whose_work_is_committed(sqlite_url: str, asynchronous: bool) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    async def later_async() -> None:
        db.async_session.add(Item(name="later"))

    def later() -> None:
        db.session.add(Item(name="later"))

    @app.post("/{outcome}")
    def endpoint(outcome: str, tasks: BackgroundTasks) -> JSONResponse:
        tasks.add_task(later_async if asynchronous else later)
        db.session.add(Item(name="now"))
        if outcome == "abort":
            db.abort()
        return JSONResponse({}, background=tasks)

    with TestClient(app) as client:
        assert client.post("/abort").status_code == 200
        with db():
            assert [item.name for item in Item.get_all()] == ["later"]
            Item.get(name="later").delete()
        assert client.post("/commit").status_code == 200
    with db():
        assert sorted(item.name for item in Item.get_all()) == ["later", "now"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_background_task_finds_nothing_of_what_the_request_did_not_commit(
    sqlite_url: str, asynchronous: bool
) -> None:
    db, Item = make_database(sqlite_url, sqlite={"busy_timeout": 0.2})
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    def apart() -> None:
        with db():
            Item.new(name="of the task")

    async def apart_async() -> None:
        async with db():
            await Item.anew(name="of the task")

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        db.async_session.add(Item(name="not committed"))
        await db.async_session.flush()
        tasks.add_task(apart_async if asynchronous else apart)
        tasks.add_task(db.async_session.commit)

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
        with db():
            assert [item.name for item in Item.get_all()] == ["of the task"]


def test_objects_of_the_request_can_be_read_in_its_background_tasks(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    seen: list[str] = []

    @app.get("/")
    def endpoint(tasks: BackgroundTasks) -> None:
        item = Item.get(1)
        tasks.add_task(lambda: seen.append(item.name))

    db.create_all()
    with db():
        Item.new(name="a")
    with TestClient(app) as client:
        client.get("/")
    assert seen == ["a"]


def test_server_sent_events_have_a_live_session(sqlite_url: str) -> None:
    sse = pytest.importorskip("fastapi.sse")
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/", response_class=sse.EventSourceResponse)
    async def events() -> AsyncIterator[Any]:
        for number in range(3):
            item = await Item.anew(name=str(number))
            yield {"id": item.id}

    with TestClient(app) as client:
        assert client.get("/").text.count("data:") == 3
    assert count_rows(db, Item) == 3


def test_a_websocket_has_a_live_session_and_a_clean_end_commits(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.websocket("/{end}")
    async def talk(websocket: WebSocket, end: str) -> None:
        await websocket.accept()
        db.async_session.add(Item(name=end))
        await db.async_session.flush()
        await websocket.send_text("ready")
        if end == "error":
            raise KeyError
        await websocket.close()

    with TestClient(app) as client:
        with client.websocket_connect("/clean") as websocket:
            assert websocket.receive_text() == "ready"
        with pytest.raises(KeyError), client.websocket_connect("/error") as websocket:
            assert websocket.receive_text() == "ready"
            websocket.receive_text()
    with db():
        assert [item.name for item in Item.get_all()] == ["clean"]


# Rule 9: cancellation and disconnects.


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cancelled_request_is_rolled_back_and_its_connection_returned(database_url: str, asynchronous: bool) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    db.create_all()
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    working = asyncio.Event()

    @app.post("/")
    async def endpoint() -> None:
        session: Any = db.async_session if asynchronous else db.session
        session.add(Item(name="a"))
        await session.flush() if asynchronous else session.flush()
        working.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None: ...

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "http_version": "1.1",
        }
        request = asyncio.create_task(app(scope, receive, send))
        await working.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        engine = db.async_engine.sync_engine if asynchronous else db.engine
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 0


# What passes through is untouched.


def test_body_headers_and_content_length_are_untouched(sqlite_url: str) -> None:
    db, _Item = make_database(sqlite_url)
    plain, surrounded = FastAPI(), FastAPI()
    surrounded.add_middleware(DBSessionMiddleware, db=db)
    for app in (plain, surrounded):

        @app.post("/")
        async def echo(request: Request) -> PlainTextResponse:
            return PlainTextResponse(await request.body(), headers={"X-One": "1", "Set-Cookie": "a=b"})

    body = bytes(range(65, 91)) * 1000
    with TestClient(plain) as one, TestClient(surrounded) as two:
        answers = [client.post("/", content=body) for client in (one, two)]
    assert answers[0].content == answers[1].content == body
    assert answers[0].headers.raw == answers[1].headers.raw


def test_a_second_middleware_of_the_same_database_changes_nothing(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    def endpoint() -> None:
        db.session.add(Item(name="a"))

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert count_rows(db, Item) == 1


# Start.


def test_an_unreachable_server_stops_the_start_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    db, _ = make_database("postgresql://user:hunter2@127.0.0.1:1/app", connect_timeout=2)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    sent: list[Any] = []

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        with pytest.raises(sa.exc.SQLAlchemyError):
            await app({"type": "lifespan", "app": app}, receive, send)

    asyncio.run(main())
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    (line,) = sent[0]["message"].splitlines()
    assert "postgresql://user:***@127.0.0.1:1/app" in line
    assert "hunter2" not in line + caplog.text
    assert "Traceback" not in caplog.text


def test_a_test_client_shows_why_the_start_failed(tmp_path: Any) -> None:
    db, _ = make_database(f"sqlite:///{tmp_path}/missing/app.db")
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    with pytest.raises(ConfigurationError, match="directory of the SQLite file does not exist"), TestClient(app):
        pass


def test_without_a_lifespan_the_tables_are_there_for_the_first_request(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    def endpoint() -> int:
        db.session.add(Item(name="a"))
        db.session.flush()
        return db.session.query(Item).count()

    assert TestClient(app).post("/").json() == 1
    db.dispose()


def test_a_database_that_is_down_is_a_503_of_the_first_request_and_of_the_next(sqlite_url: str) -> None:
    db, Item = make_database("postgresql://user@127.0.0.1:1/app", connect_timeout=2)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/")
    def endpoint() -> int:
        return db.session.query(Item).count()

    client = TestClient(app)
    for _ in range(2):
        answer = client.get("/")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == "database_unavailable"


def test_a_full_pool_is_a_503_with_retry_after_and_routes_without_database_go_on(database_url: str) -> None:
    db, Item = make_database(database_url, pool_timeout=0.2, engine_args={"pool_size": 1, "max_overflow": 0})
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.get("/")
    def endpoint() -> int:
        return db.session.query(Item).count()

    @app.get("/none")
    def none() -> None: ...

    @app.get("/refused")
    def refused(session: Any = None) -> None:
        raise HTTPException(401)

    with TestClient(app) as client:
        with db():
            db.session.execute(sa.select(Item))
            answer = client.get("/")
            assert (client.get("/none").status_code, client.get("/refused").status_code) == (200, 401)
        assert (answer.status_code, answer.json()["code"]) == (503, "timeout")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/").status_code == 200


def test_a_session_of_the_request_is_refused_after_it(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=db)
    kept: list[Session] = []

    @app.get("/")
    def endpoint() -> int:
        kept.append(db.session)
        return db.session.query(Item).count()

    with TestClient(app) as client:
        client.get("/")
    with pytest.raises(sa.exc.InvalidRequestError, match="This session is closed"):
        kept[0].query(Item).count()
