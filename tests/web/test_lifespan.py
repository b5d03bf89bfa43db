"""``FastAPI(lifespan=db.lifespan)``: the database is ready before the first request and let go after the last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from fastapi_sqlalchemy import DBSessionMiddleware
from fastapi_sqlalchemy.exceptions import DatabaseUnavailableError
from tests.support.client import TestClient
from tests.support.doors import count_rows, make_database


def test_it_creates_the_tables_and_serves_sessions_without_a_middleware(database_url: str) -> None:
    db, Item = make_database(database_url, commit_on_exit=True)
    app = FastAPI(lifespan=db.lifespan)

    @app.post("/{status}")
    def endpoint(status: int) -> JSONResponse:
        Item.new(name=str(status))
        return JSONResponse({}, status_code=status)

    for _ in range(2):
        with TestClient(app) as client:
            assert [client.post(f"/{status}").status_code for status in (200, 400, 409)] == [200, 400, 409]
            assert count_rows(db, Item) == 1
            with db(commit_on_exit=True):
                Item.get(name="200").delete()


def test_a_returned_response_of_400_rolls_back_behind_the_dependency_too(sqlite_url: str) -> None:
    db, Item = make_database(sqlite_url, commit_on_exit=True)
    app = FastAPI(lifespan=db.lifespan)

    @app.post("/")
    def endpoint(session: Session = Depends(db.get_session)) -> JSONResponse:
        session.add(Item(name="a"))
        session.flush()
        return JSONResponse({}, status_code=400)

    with TestClient(app) as client:
        assert client.post("/").status_code == 400
    assert count_rows(db, Item) == 0


def test_a_middleware_that_is_there_is_not_doubled(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    for arguments in ({"db": db}, {"db": [db]}):
        app = FastAPI(lifespan=db.lifespan)
        app.add_middleware(DBSessionMiddleware, **arguments)
        with TestClient(app):
            assert sum(isinstance(layer, DBSessionMiddleware) for layer in _layers(app)) == 1


def test_middleware_of_others_is_not_made_anew(sqlite_url: str) -> None:
    db, _ = make_database(sqlite_url)
    made: list[Any] = []

    class Stateful:
        def __init__(self, app: Any) -> None:
            self.app = app
            made.append(self)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    app = FastAPI(lifespan=db.lifespan)
    app.add_middleware(Stateful)
    with TestClient(app) as client:
        client.get("/")
        assert len(made) == 1
        assert sum(isinstance(layer, DBSessionMiddleware) for layer in _layers(app)) == 1


def _layers(app: FastAPI) -> list[Any]:
    layers, layer = [], app.middleware_stack
    while layer is not None:
        layers.append(layer)
        layer = getattr(layer, "app", None)
    return layers


def test_it_may_be_entered_inside_of_another_lifespan_for_several_databases(tmp_path: Path) -> None:
    (one, First), (two, Second) = (
        make_database(f"sqlite:///{tmp_path}/{name}.db", commit_on_exit=True) for name in ("one", "two")
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for db in (one, two):
                await stack.enter_async_context(db.lifespan(app))
            async with one():
                await First.anew(name="from the start")
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def endpoint() -> list[int]:
        return [First.query.count(), Second.query.count()]

    with TestClient(app) as client:
        assert client.get("/").json() == [1, 0]


def test_it_disposes_what_it_opened_and_leaves_engines_of_others_alone(sqlite_url: str) -> None:
    engine = sa.create_engine(sqlite_url)
    ours, _ = make_database(sqlite_url)
    theirs, _ = make_database("sqlite://", custom_engine=engine)
    for db, left in ((ours, 0), (theirs, 1)):
        app = FastAPI(lifespan=db.lifespan)

        @app.get("/")
        def endpoint(session: Session = Depends(db.get_session)) -> int:
            return session.scalar(sa.select(1)) or 0

        with TestClient(app) as client:
            assert client.get("/").json() == 1
        assert db.engine.pool.checkedin() == left  # type: ignore[attr-defined]
    engine.dispose()


def test_a_database_that_comes_late_is_waited_for(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    target = sa.make_url(postgres_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    db, _ = make_database(target.set(port=port).render_as_string(hide_password=False))
    waited = threading.Event()

    class Opened(threading.Thread):
        """Opens the port once the application has failed to connect, and forwards to the server."""

        def run(self) -> None:
            waited.wait(10)
            with socket.create_server(("127.0.0.1", port)) as listener:
                while True:
                    client, _ = listener.accept()
                    if finished.is_set():
                        client.close()
                        return
                    server = socket.create_connection((target.host or "127.0.0.1", target.port or 5432))
                    for source, sink in ((client, server), (server, client)):
                        threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    finished = threading.Event()
    proxy = Opened()
    proxy.start()

    class Watch:
        def filter(self, record: Any) -> bool:
            if "not there yet" in record.getMessage():
                waited.set()
            return True

    caplog.set_level("INFO", logger="fastapi_sqlalchemy")
    caplog.handler.addFilter(Watch().filter)
    app = FastAPI(lifespan=db.lifespan)

    @app.get("/")
    def endpoint() -> int:
        return db.session.scalar(sa.select(1)) or 0

    try:
        with TestClient(app) as client:
            assert waited.is_set()
            assert client.get("/").json() == 1
        db.dispose()
    finally:
        waited.set()
        finished.set()
        socket.create_connection(("127.0.0.1", port)).close()
        proxy.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with source, sink, contextlib.suppress(OSError):  # the other direction has ended and closed both
        while data := source.recv(65536):
            sink.sendall(data)


def test_a_database_that_never_comes_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_sqlalchemy.web.lifespan.WAIT", 0.3)
    db, _ = make_database("postgresql://user:hunter2@127.0.0.1:1/app")
    with pytest.raises(DatabaseUnavailableError) as caught, TestClient(FastAPI(lifespan=db.lifespan)):
        pass
    assert len(str(caught.value).splitlines()) == 1
    assert "user:***@127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


PROGRAM = """
import asyncio, sys
import sqlalchemy as sa
from fastapi_sqlalchemy import SQLAlchemy
db = SQLAlchemy(sys.argv[1])

async def work():
    async with db():
        return (await db.async_session.scalars(sa.select(1))).all()

how = sys.argv[2]
if how == "run":
    assert asyncio.run(work()) == [1]
elif how == "loop":
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(work()) == [1]
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
elif how == "careless loop":
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(work()) == [1]
    loop.close()
print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["run", "loop", "careless loop"])
def test_a_program_that_never_disposes_ends(sqlite_url: str, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, sqlite_url, how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    if how != "careless loop":
        assert done.stderr == ""


def test_many_event_loops_in_turn_leave_nothing_behind(database_url: str) -> None:
    db, Item = make_database(database_url)
    db.create_all()

    async def work(number: int) -> None:
        async with db(commit_on_exit=True):
            await Item.anew(name=str(number))

    for number in range(20):
        asyncio.run(work(number))
    assert count_rows(db, Item) == 20


def test_a_start_that_fails_is_one_line_in_the_log_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\n"
        "from fastapi_sqlalchemy import SQLAlchemy\n"
        "db = SQLAlchemy('sqlite:////nowhere/at/all/app.db')\n"
        "app = FastAPI(lifespan=db.lifespan)\n"
    )
    command = [sys.executable, "-m", "uvicorn", "main:app", "--port", "0", "--app-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 2
    assert "The directory of the SQLite file does not exist" in lines[0]
    assert lines[1].endswith("Application startup failed. Exiting.")
    assert "Traceback" not in done.stderr
