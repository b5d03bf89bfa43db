"""The rules of a scope: one session a request, opened late, committed before the response, closed for good."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import event
from sqlalchemy.orm import Mapped, Session, mapped_column
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Send

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.exceptions import (
    AsyncScopeRequiredError,
    ConcurrentSessionUseError,
    MissingSessionError,
    ReadOnlyError,
    SessionClosedError,
    SessionNotInitialisedError,
)
from tests.support.client import TestClient
from tests.support.doors import DOORS, Door, count_rows, make_database


class Mine(Exception):
    pass


@pytest.fixture(params=DOORS, ids=str)
def door(request: pytest.FixtureRequest) -> Door:
    return request.param


class Counter:
    """Counts what happens to the connections of both engines of a database."""

    def __init__(self) -> None:
        self.commits = 0
        self.checkouts = 0

    def watch(self, engine: sa.Engine) -> None:
        event.listen(engine, "commit", self._commit)
        event.listen(engine, "checkout", self._checkout)

    def _commit(self, _connection: sa.Connection) -> None:
        self.commits += 1

    def _checkout(self, *_arguments: Any) -> None:
        self.checkouts += 1


class Watched:
    """An application behind a door, both of whose engines are watched once it runs."""

    def __init__(self, db: SQLAlchemy, app: FastAPI) -> None:
        self.counter = Counter()
        self.app = app
        self.counter.watch(db.engine)

        @app.get("/watch-the-async-engine")
        async def watch() -> None:
            self.counter.watch(db.async_engine.sync_engine)


@pytest.fixture
def client_of() -> Iterator[Any]:
    """A client of a watched application, ready to be counted."""
    clients: list[TestClient] = []

    def start(watched: Watched) -> TestClient:
        client = TestClient(watched.app)
        client.__enter__()
        clients.append(client)
        client.get("/watch-the-async-engine")
        watched.counter.commits = watched.counter.checkouts = 0
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


# Rule 1: one session per request, seen by all that belongs to the request and by nobody else.


def test_the_middleware_gives_one_session_to_endpoint_dependencies_and_inner_middleware(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    app = FastAPI()
    seen: list[Session] = []

    @app.middleware("http")
    async def inner(request: Any, call_next: Any) -> Response:
        seen.append(db.session)
        response: Response = await call_next(request)
        return response

    app.add_middleware(DBSessionMiddleware, db=db)

    def dependency() -> None:
        seen.append(db.session)

    @app.get("/", dependencies=[Depends(dependency)])
    def endpoint(session: Session = Depends(db.get_session)) -> None:
        seen.extend((session, db.session))

    with TestClient(app) as client:
        assert client.get("/").status_code == 200
        assert len(seen) == 4
        assert len(set(map(id, seen))) == 1
        first = seen[0]
        client.get("/")
        assert seen[-1] is not first


def test_the_dependency_gives_one_session_to_endpoint_and_dependencies(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    app = FastAPI()

    def dependency(session: Session = Depends(db.get_session)) -> Session:
        return session

    @app.get("/")
    def endpoint(one: Session = Depends(dependency), two: Session = Depends(db.get_session)) -> bool:
        return one is two is db.session

    with TestClient(app) as client:
        assert client.get("/").json() is True


@pytest.mark.parametrize("by", ["middleware", "dependency"])
def test_work_handed_to_a_thread_belongs_to_the_request_and_a_thread_started_by_hand_does_not(
    sqlite_url: str, by: str
) -> None:
    db, Item = make_database(sqlite_url)
    app = Door(by, asynchronous=False).app(db)

    def count() -> int:
        return db.session.query(Item).count()

    async def work() -> dict[str, Any]:
        mine = db.session
        result: dict[str, Any] = {
            "pool": await run_in_threadpool(lambda: db.session is mine and count()),
            "to_thread": await asyncio.to_thread(lambda: db.session is mine and count()),
        }
        errors: list[BaseException] = []

        def alone() -> None:
            try:
                count()
            except MissingSessionError as error:
                errors.append(error)

        thread = threading.Thread(target=alone)
        thread.start()
        thread.join()
        result["by hand"] = [type(error).__name__ for error in errors]
        return result

    if by == "middleware":
        app.get("/")(work)
    else:

        @app.get("/")
        async def endpoint(_session: Session = Depends(db.get_session)) -> dict[str, Any]:
            return await work()

    with TestClient(app) as client:
        assert client.get("/").json() == {"pool": 0, "to_thread": 0, "by hand": ["MissingSessionError"]}


def test_concurrent_requests_and_tasks_never_see_each_others_session(sqlite_url: str, door: Door) -> None:
    db, Item = make_database(sqlite_url)
    app = door.app(db)
    sessions: list[int] = []
    kept: list[Session] = []

    def work(session: Session) -> None:
        session.execute(sa.select(Item))
        kept.append(session)
        sessions.append(id(session))

    door.route(app, db, "/", work, method="GET")

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        await db.adispose()

    asyncio.run(main())
    assert len(set(sessions)) == 20


# Rule 2: nothing is opened until the first statement.


def test_a_refused_request_and_one_that_uses_no_database_take_no_connection(
    sqlite_url: str, door: Door, client_of: Any
) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = door.app(db)

    def refuse() -> None:
        raise HTTPException(401)

    door.route(app, db, "/items/{number}", lambda session: session.query(Item).count(), dependencies=[Depends(refuse)])
    door.route(app, db, "/idle", lambda session: None)

    @app.post("/typed")
    def typed(number: int) -> None: ...

    watched = Watched(db, app)
    client = client_of(watched)
    statuses = [
        client.post("/items/1").status_code,
        client.get("/nowhere").status_code,
        client.get("/idle").status_code,
        client.post("/typed").status_code,
        client.post("/idle").status_code,
    ]
    assert statuses == [401, 404, 405, 422, 200]
    assert watched.counter.checkouts == 0


# Rule 3: a clean end commits exactly once before the first byte; everything else rolls back.


def test_a_clean_request_commits_exactly_once_before_the_first_byte(
    database_url: str, door: Door, client_of: Any
) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    app = door.app(db)
    door.route(app, db, "/", lambda session: session.add(Item(name="a")))
    watched = Watched(db, app)
    rows_at_start: list[int] = []

    class Outermost:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def look(message: Any) -> None:
                if message["type"] == "http.response.start" and scope["method"] == "POST":
                    rows_at_start.append(await anyio.to_thread.run_sync(count_rows, db, Item))
                await send(message)

            await self.inner(scope, receive, look)

    app.add_middleware(Outermost)
    client = client_of(watched)
    assert client.post("/").status_code == 200
    assert rows_at_start == [1]
    assert watched.counter.commits == 1


def _answered(session: Session, Item: Any) -> Response:
    session.add(Item(name="answered"))
    session.flush()
    return JSONResponse({}, status_code=409)


def _http_error(session: Session, Item: Any) -> None:
    session.add(Item(name="raised"))
    session.flush()
    raise HTTPException(404)


def _crash(session: Session, Item: Any) -> None:
    session.add(Item(name="crashed"))
    session.flush()
    raise RuntimeError


@pytest.mark.parametrize("work", [_answered, _http_error, _crash])
def test_an_answer_of_400_or_more_and_an_exception_roll_back(database_url: str, door: Door, work: Any) -> None:
    if door.by == "dependency" and work is _answered:
        pytest.skip("the dependency cannot see a response object; see db.abort()")
    db, Item = make_database(database_url, commit_on_exit=True)
    app = door.app(db)
    door.route(app, db, "/", lambda session: work(session, Item))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/").status_code in (404, 409, 500)
    assert count_rows(db, Item) == 0


@pytest.mark.parametrize("by", ["middleware", "dependency"])
def test_a_status_code_set_on_the_injected_response_rolls_back(sqlite_url: str, by: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = Door(by, asynchronous=False).app(db)

    @app.post("/")
    def endpoint(response: Response, session: Session = Depends(db.get_session)) -> None:
        session.add(Item(name="a"))
        response.status_code = 400

    with TestClient(app) as client:
        assert client.post("/").status_code == 400
    assert count_rows(db, Item) == 0


@pytest.mark.parametrize("by", ["middleware", "dependency"])
def test_a_status_that_the_route_declares_rolls_back(sqlite_url: str, by: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = Door(by, asynchronous=False).app(db)

    @app.post("/", status_code=404)
    def endpoint(session: Session = Depends(db.get_session)) -> None:
        session.add(Item(name="a"))

    with TestClient(app) as client:
        assert client.post("/").status_code == 404
    assert count_rows(db, Item) == 0


@pytest.mark.parametrize("error", [Mine(), HTTPException(303)], ids=repr)
@pytest.mark.parametrize("around", ["nothing", "inner middleware", "plain route", "mounted"])
def test_an_exception_rolls_back_whatever_its_handler_answers(
    sqlite_url: str, door: Door, error: Exception, around: str
) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = door.app(db)
    inner = FastAPI() if around == "mounted" else app
    if around == "inner middleware":
        app.user_middleware.append(Middleware(BaseHTTPMiddleware, dispatch=_passed_on))
    if around == "plain route" and door.by == "dependency":
        pytest.skip("a plain route of Starlette has no dependencies")

    def work(session: Session) -> None:
        session.add(Item(name="a"))
        session.flush()
        raise error

    async def plain(request: Request) -> None:
        await db.async_session.run_sync(work) if door.asynchronous else work(db.session)

    inner.exception_handler(Mine)(lambda request, error: JSONResponse({}, status_code=200))
    if around == "plain route":
        app.add_route("/", plain, methods=["POST"])
    else:
        door.route(inner, db, "/", work)
    app.mount("/inner", inner) if inner is not app else None
    with TestClient(app, follow_redirects=False) as client:
        assert client.post("/" if inner is app else "/inner/").status_code in (200, 303, 304)
    assert count_rows(db, Item) == 0


def test_an_inner_application_that_is_called_while_another_error_is_handled_ends_cleanly(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI()

    class Cache:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
            try:
                raise KeyError
            except KeyError:
                await self.app(scope, receive, send)

    app.add_middleware(Cache)
    app.add_middleware(DBSessionMiddleware, db=db)

    @app.post("/")
    def endpoint() -> None:
        db.session.add(Item(name="a"))

    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert count_rows(db, Item) == 1


async def _passed_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def test_abort_rolls_back_a_clean_request(database_url: str, door: Door) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    app = door.app(db)

    def work(session: Session) -> Response:
        session.add(Item(name="a"))
        session.flush()
        db.abort()
        return JSONResponse({}, status_code=200)

    door.route(app, db, "/", work)
    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert count_rows(db, Item) == 0


def test_without_commit_on_exit_nothing_is_committed_that_the_user_did_not_commit(
    database_url: str, door: Door, client_of: Any
) -> None:
    db, Item = make_database(database_url)
    app = door.app(db)

    def flush(session: Session) -> None:
        session.add(Item(name="flushed"))
        session.flush()

    def commit(session: Session) -> None:
        session.add(Item(name="committed"))
        session.commit()
        session.add(Item(name="after"))
        session.flush()

    door.route(app, db, "/flush", flush)
    door.route(app, db, "/commit", commit)
    door.route(app, db, "/read", lambda session: session.query(Item).count(), method="GET")
    watched = Watched(db, app)
    client = client_of(watched)
    assert client.post("/flush").status_code == 200
    assert client.get("/read").json() == 0
    assert watched.counter.commits == 0
    assert client.post("/commit").status_code == 200
    assert client.get("/read").json() == 1


@pytest.mark.backends("postgresql")
def test_a_select_with_a_side_effect_is_rolled_back_like_any_write(database_url: str, door: Door) -> None:
    db, Item = make_database(database_url)
    app = door.app(db)
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION leave() RETURNS int LANGUAGE sql AS $$INSERT INTO item (name) VALUES ('x') RETURNING id$$"
        )
    door.route(app, db, "/", lambda session: session.execute(sa.select(sa.func.leave())).scalar(), method="GET")
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
    assert count_rows(db, Item) == 0


# Rule 5 and 6: nesting, and no scope.


def test_a_nested_scope_is_independent_and_the_outer_one_comes_back(database_url: str) -> None:
    db, Item = make_database(database_url)
    db.create_all()
    with db():
        outer = db.session
        assert db.session.query(Item).count() == 0
        with db(commit_on_exit=True) as inner:
            assert inner is db
            assert db.session is not outer
            db.session.add(Item(name="inner"))
        assert db.session is outer
        db.session.add(Item(name="outer"))
    assert count_rows(db, Item) == 1


def test_a_nested_async_scope_is_independent_and_the_outer_one_comes_back(database_url: str) -> None:
    db, Item = make_database(database_url)

    async def main() -> None:
        await db.acreate_all()
        async with db():
            outer = db.async_session
            await db.async_session.scalars(sa.select(Item))
            async with db(commit_on_exit=True):
                assert db.async_session is not outer
                db.async_session.add(Item(name="inner"))
            assert db.async_session is outer
            db.async_session.add(Item(name="outer"))
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 1


def test_no_scope_and_no_url_are_told_apart_and_one_except_catches_both(sqlite_url: str) -> None:
    bare = SQLAlchemy()
    assert not bare.initiated
    for use in (lambda: bare.session, lambda: bare.engine, lambda: bare.url, lambda: bare().__enter__()):
        with pytest.raises(SessionNotInitialisedError, match=r"db\.init\(url\)") as caught:
            use()
        assert isinstance(caught.value, MissingSessionError)
    db, _ = make_database(sqlite_url)
    assert db.initiated
    for use in (lambda: db.session, lambda: db.sync_session, lambda: db.async_session, lambda: db.abort()):
        with pytest.raises(MissingSessionError, match=r"with db\(\)") as missing:
            use()
        assert not isinstance(missing.value, SessionNotInitialisedError)


def test_an_async_session_in_a_plain_with_is_refused(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    with db(), pytest.raises(AsyncScopeRequiredError, match="async with db"):
        _ = db.async_session


def test_contexts_wrap_functions_in_a_scope_of_their_own(database_url: str) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    db.create_all()

    @db.sync_context
    def add(name: str) -> str:
        db.session.add(Item(name=name))
        return name

    @db.async_context
    async def add_async(name: str) -> str:
        db.async_session.add(Item(name=name))
        return name

    assert add("a") == "a"

    async def main() -> None:
        assert await add_async("b") == "b"
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 2
    assert add.__name__ == "add"
    with pytest.raises(AsyncScopeRequiredError, match=r"db\.async_context"):
        db.sync_context(add_async)


def test_options_of_a_scope_override_those_of_the_database(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    db.create_all()
    with db(session_args={"autoflush": False}, commit_on_exit=False):
        assert db.session.autoflush is False
        db.session.add(Item(name="a"))
    assert count_rows(db, Item) == 0


# Rule 7: a closed session refuses work.

USES: dict[str, Any] = {
    "execute": lambda session, Item, row: session.execute(sa.select(1)),
    "scalars": lambda session, Item, row: session.scalars(sa.select(Item)),
    "get": lambda session, Item, row: session.get(Item, 1),
    "query": lambda session, Item, row: session.query(Item).all(),
    "add": lambda session, Item, row: session.add(Item(name="late")),
    "add_all": lambda session, Item, row: session.add_all([Item(name="late")]),
    "merge": lambda session, Item, row: session.merge(row),
    "delete": lambda session, Item, row: session.delete(row),
    "refresh": lambda session, Item, row: session.refresh(row),
    "begin": lambda session, Item, row: session.begin(),
    "begin_nested": lambda session, Item, row: session.begin_nested(),
    "connection": lambda session, Item, row: session.connection(),
    "commit": lambda session, Item, row: session.commit(),
    "bulk": lambda session, Item, row: session.bulk_insert_mappings(Item, [{"name": "late"}]),
    "on_commit": lambda session, Item, row: session.on_commit(list),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_session_refuses_work_and_names_the_cure(sqlite_url: str, use: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()
    with db():
        row = Item.new(name="a")
        session = db.session
    with pytest.raises(SessionClosedError, match=r"with db\(\)"):
        USES[use](session, Item, row)
    assert count_rows(db, Item) == 1


@pytest.mark.parametrize("use", USES)
def test_a_closed_async_session_refuses_work_and_names_the_cure(sqlite_url: str, use: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    async def main() -> None:
        async with db():
            row = await Item.anew(name="a")
            session = db.async_session
        with pytest.raises(SessionClosedError, match=r"with db\(\)"):
            await session.run_sync(USES[use], Item, row)
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 1


def test_a_task_that_outlives_its_scope_is_refused_until_it_opens_its_own(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url)
    db.create_all()

    async def main() -> None:
        over = asyncio.Event()

        async def later() -> None:
            await over.wait()
            with pytest.raises(SessionClosedError):
                await db.async_session.scalars(sa.select(Item))
            with pytest.raises(MissingSessionError):
                db.session.query(Item).all()
            for use in (db.abort, lambda: db.on_commit(list)):
                with pytest.raises((SessionClosedError, MissingSessionError)):
                    use()
            async with db():
                await Item.anew(name="late")

        async with db():
            await db.async_session.scalars(sa.select(Item))
            task = asyncio.create_task(later())
        over.set()
        await task
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 1


# One user at a time.


def test_gathered_work_on_one_async_session_is_refused_and_leaks_nothing(database_url: str) -> None:
    db, Item = make_database(database_url)
    db.create_all()

    async def main() -> None:
        async with db():
            session = db.async_session
            results = await asyncio.gather(
                *(session.execute(sa.select(Item)) for _ in range(5)), return_exceptions=True
            )
            assert sum(isinstance(result, ConcurrentSessionUseError) for result in results) == 4
            assert (await session.scalars(sa.select(Item))).all() == []
        await db.adispose()

    asyncio.run(main())


def test_two_threads_on_one_session_are_refused_and_leak_nothing(database_url: str) -> None:
    db, _ = make_database(database_url)
    db.create_all()
    inside, go_on = threading.Event(), threading.Event()

    @event.listens_for(db.engine, "before_cursor_execute")
    def hold(*_arguments: Any) -> None:
        if not inside.is_set():
            inside.set()
            go_on.wait(10)

    with db():
        session = db.session
        thread = threading.Thread(target=lambda: session.execute(sa.select(1)))
        thread.start()
        assert inside.wait(10)
        with pytest.raises(ConcurrentSessionUseError, match="one at a time"):
            session.execute(sa.select(1))
        go_on.set()
        thread.join()
        assert session.scalar(sa.select(1)) == 1


# Rule 8: sync sessions on the event loop, too, never wait for a connection that the loop itself would free.


@pytest.mark.parametrize("by", ["middleware", "dependency"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_async_endpoints_with_a_sync_session_share_a_small_pool(postgres_url: str, by: str, method: str) -> None:
    db, Item = make_database(postgres_url, commit_on_exit=True, engine_args={"pool_size": 2, "max_overflow": 0})
    app = Door(by, asynchronous=False).app(db)

    def work(session: Session) -> int:
        if method == "POST":
            session.add(Item(name=uuid.uuid4().hex))
            session.flush()
        return session.scalar(sa.select(1)) or 0

    if by == "middleware":

        async def endpoint() -> int:
            return work(db.session)

    else:

        async def endpoint(session: Session = Depends(db.get_session)) -> int:  # type: ignore[misc]
            return work(session)

    app.add_api_route("/", endpoint, methods=[method])

    async def main() -> list[int]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            answers = await asyncio.gather(*(client.request(method, "/") for _ in range(60)))
        return [answer.status_code for answer in answers]

    assert set(asyncio.run(main())) == {200}
    assert count_rows(db, Item) == (60 if method == "POST" else 0)


# Rule 9: the first error is the one that is seen.


def test_a_connection_that_dies_does_not_hide_the_error_of_the_request(
    postgres_url: str, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    db, Item = make_database(postgres_url, commit_on_exit=True)
    app = door.app(db)
    app.add_exception_handler(Mine, lambda request, error: JSONResponse({}, status_code=418))

    def work(session: Session) -> None:
        session.add(Item(name="a"))
        session.flush()
        _kill_backend(db, session)
        raise Mine

    door.route(app, db, "/", work)
    with TestClient(app) as client:
        assert client.post("/").status_code == 418
    assert count_rows(db, Item) == 0
    assert any(record.levelname == "ERROR" and "rolled back" in record.message for record in caplog.records)


def test_a_connection_that_dies_does_not_hide_the_error_of_a_block(postgres_url: str) -> None:
    db, Item = make_database(postgres_url)
    db.create_all()
    for block in (db, db.transaction):
        with pytest.raises(Mine), block(), db.transaction() as session:
            session.add(Item(name="a"))
            session.flush()
            _kill_backend(db, session)
            raise Mine
    assert count_rows(db, Item) == 0


def _kill_backend(db: SQLAlchemy, session: Session) -> None:
    pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
    engine = sa.create_engine(db.engine.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


# Rule 10: databases never cross.


def test_one_middleware_serves_several_databases_and_each_keeps_its_own(tmp_path: Any) -> None:
    (one, First), (two, Second) = (make_database(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two"))
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=[one, two], commit_on_exit=True)

    @app.post("/{name}")
    def endpoint(name: str) -> None:
        First.new(name=name)
        Second.new(name=name + "2")
        Second.new(name=name + "3")

    with TestClient(app) as client:
        assert client.post("/a").status_code == 200
    assert (count_rows(one, First), count_rows(two, Second)) == (1, 2)


def test_a_constraint_broken_in_one_database_leaves_nothing_in_the_other(tmp_path: Any) -> None:
    (one, First), (two, Second) = (make_database(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two"))
    app = FastAPI()
    app.add_middleware(DBSessionMiddleware, db=(one, two), commit_on_exit=True)

    @app.post("/")
    def endpoint() -> None:
        one.session.add(First(name="a"))
        two.session.add_all([Second(name="b"), Second(name="b")])

    with TestClient(app) as client:
        assert client.post("/").status_code == 409
    assert (count_rows(one, First), count_rows(two, Second)) == (0, 0)


def test_the_same_models_on_two_databases_follow_the_scope_that_is_open(tmp_path: Any) -> None:
    metadata = sa.MetaData()
    one = SQLAlchemy(f"sqlite:///{tmp_path}/one.db", metadata=metadata)

    class Item(one.Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    two = SQLAlchemy(f"sqlite:///{tmp_path}/two.db", model_class=one.Base)
    for db in (one, two):
        db.create_all()
    with one():
        Item.new(id=1)
    with two():
        Item.new(id=1)
        Item.new(id=2)
    assert (count_rows(one, Item), count_rows(two, Item)) == (1, 2)


# Read-only scopes.


@pytest.mark.parametrize(
    "write",
    [
        lambda session, Item: (session.add(Item(name="a")), session.flush()),
        lambda session, Item: session.execute(sa.insert(Item).values(name="a")),
        lambda session, Item: session.bulk_insert_mappings(Item, [{"name": "a"}]),
        lambda session, Item: (session.execute(sa.text("INSERT INTO item (name) VALUES ('a')")), session.commit()),
        lambda session, Item: Item.new(name="a"),
    ],
)
def test_a_read_only_scope_refuses_to_write(database_url: str, write: Any) -> None:
    db, Item = make_database(database_url)
    db.create_all()
    with db.read_only():
        assert db.session.query(Item).count() == 0
        with pytest.raises(ReadOnlyError, match="read-only"):
            write(db.session, Item)
    assert count_rows(db, Item) == 0


def test_a_read_only_async_scope_refuses_to_write(database_url: str) -> None:
    db, Item = make_database(database_url)

    async def main() -> None:
        await db.acreate_all()
        async with db.read_only():
            assert await Item.aget_all() == []
            with pytest.raises(ReadOnlyError):
                await Item.anew(name="a")
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 0


# db.run


@pytest.mark.parametrize("use_async", [None, False, True])
def test_run_commits_on_return_and_rolls_back_on_error(database_url: str, use_async: bool | None) -> None:
    db, Item = make_database(database_url)
    db.create_all()

    def add(session: Session, *, fail: bool = False) -> str:
        session.add(Item(name=uuid.uuid4().hex))
        session.flush()
        if fail:
            raise Mine
        return "done"

    async def main() -> None:
        assert await db.run(add, use_async=use_async) == "done"
        with pytest.raises(Mine):
            await db.run(lambda session: add(session, fail=True), use_async=use_async)
        with pytest.raises(ReadOnlyError):
            await db.run(add, read_only=True, use_async=use_async)
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_read_only_run_sees_what_its_scope_has_written_and_commits_nothing_of_it(
    database_url: str, asynchronous: bool
) -> None:
    db, Item = make_database(database_url)
    db.create_all()

    def count(session: Session) -> int:
        return session.query(Item).count()

    async def main() -> None:
        async with db():
            session: Any = db.async_session if asynchronous else db.session
            assert await db.run(count, read_only=True) == 0
            assert not session.in_transaction(), "what only read gives its connection back"
            db.on_commit(lambda: committed.append("early"))
            assert await db.run(count, read_only=True) == 0
            session.add(Item(name="a"))
            await session.flush() if asynchronous else session.flush()
            with pytest.raises(Mine):
                await db.run(fail, read_only=True)
            assert await db.run(count, read_only=True) == 1
            assert count_rows(db, Item) == 0 == len(committed)
        assert count_rows(db, Item) == 0 == len(committed)
        async with db():
            session = db.async_session if asynchronous else db.session
            session.add(Item(name="b"))
            db.on_commit(lambda: committed.append("late"))
            assert await db.run(count, read_only=True) == 1
            assert not committed
            await session.commit() if asynchronous else session.commit()
        await db.adispose()

    def fail(session: Session) -> None:
        count(session)
        raise Mine

    committed: list[str] = []
    asyncio.run(main())
    assert count_rows(db, Item) == 1 and committed == ["late"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_run_works_on_the_session_that_is_in_use(database_url: str, asynchronous: bool) -> None:
    db, Item = make_database(database_url)
    db.create_all()

    async def main() -> None:
        async with db(commit_on_exit=True):
            session: Any = db.async_session if asynchronous else db.session
            session.add(Item(name="a"))
            await session.flush() if asynchronous else session.flush()
            assert await db.run(lambda session: session.query(Item).count()) == 1
            assert count_rows(db, Item) == 0
        with db(commit_on_exit=True):
            db.session.add(Item(name="b"))
            assert await db.run(lambda session: session.query(Item).count()) == 2
        await db.adispose()

    asyncio.run(main())
    assert count_rows(db, Item) == 2
