"""The tables of explanation/sessions-and-commits.md are run: each cell says what is kept of a row that was added."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import (
    AsyncSession,
    DBSessionMiddleware,
    SessionClosedError,
    SQLAlchemy,
)
from tests.support.client import TestClient

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "sessions-and-commits.md"


class Handled(Exception):
    """What the application has a handler for."""


class Wrong(Exception):
    """What a route raises that knows no better."""


def tables() -> list[dict[str, dict[str, str]]]:
    """The tables of the page, ending -> door -> cell; names stand between backticks or as they are."""
    found: list[dict[str, dict[str, str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines())
        found.append({row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows})
    return found


ON_EXIT, _WRITES, SCRIPTS = tables()
REQUEST_DOORS = list(next(iter(ON_EXIT.values())))
WRITES = {how: {setting: cells[how] for setting, cells in _WRITES.items()} for how in next(iter(_WRITES.values()))}
ENDS = {"a clean end": "pass", "an exception": "raise Wrong", "`db.abort()`": "db.abort()"}


def database(url: str, **options: Any) -> tuple[SQLAlchemy, Any]:
    db = SQLAlchemy(url, **options)

    class Row(db.Base):
        name: Mapped[str] = mapped_column(sa.String(80), primary_key=True)

    return db, Row


def kept(db: SQLAlchemy, row: Any) -> bool:
    """Whether a connection of its own sees the row; the table is empty afterwards."""
    with db.engine.begin() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(row))
        connection.execute(sa.delete(row))
    return bool(count)


def application(door: str, db: SQLAlchemy, row: Any, write: str) -> FastAPI:
    """An application with one route for each ending, its session come in by ``door``."""
    lifespan = db.lifespan if "lifespan" in door else None
    app = FastAPI(lifespan=lifespan)
    if "Middleware" in door:
        app.add_middleware(DBSessionMiddleware, db=db)
    db.create_all()
    dependency: Any = db.get_async_session if "async" in door else db.get_session

    async def work(session: Any) -> None:
        if write == "`Row.new()`":
            await row.anew(name="one") if "async" in door else row.new(name="one")
            return
        session.add(row(name="one"))
        if write.endswith("`session.commit()`"):
            await session.commit() if isinstance(session, AsyncSession) else session.commit()
        else:
            assert write == "`session.add(row)`"

    def session_of(given: Any) -> Any:
        if "Depends" in door:
            return given
        return db.async_session if "async" in door else db.session

    given: Any = Depends(dependency) if "Depends" in door else None

    @app.post("/a clean end")
    async def clean(session: Any = given) -> None:
        await work(session_of(session))

    @app.post("/`raise HTTPException(409)`")
    async def http_exception(session: Any = given) -> None:
        await work(session_of(session))
        raise HTTPException(409)

    @app.post("/`return JSONResponse(..., status_code=409)`")
    async def returned(session: Any = given) -> JSONResponse:
        await work(session_of(session))
        return JSONResponse(None, status_code=409)

    @app.post("/`response.status_code = 409`")
    async def status(response: Response, session: Any = given) -> None:
        await work(session_of(session))
        response.status_code = 409

    @app.post("/any other exception")
    async def raised(session: Any = given) -> None:
        await work(session_of(session))
        raise Wrong

    @app.exception_handler(Handled)
    async def handle(request: Request, error: Handled) -> JSONResponse:
        return JSONResponse(None)

    @app.post("/an exception that a handler answers with 200")
    async def handled(session: Any = given) -> None:
        await work(session_of(session))
        raise Handled

    @app.post("/a route with `status_code=409`", status_code=409)
    async def declared(session: Any = given) -> None:
        await work(session_of(session))

    @app.post("/`db.abort()`")
    async def aborted(session: Any = given) -> None:
        await work(session_of(session))
        db.abort()

    @app.post("/a value that the response model refuses", response_model=int)
    async def refused(session: Any = given) -> str:
        await work(session_of(session))
        return "no integer"

    @app.post("/written while the body is streamed")
    async def streamed(session: Any = given) -> StreamingResponse:
        used = session_of(session)

        async def body() -> Any:
            yield b"first"
            await work(used)
            yield b"last"

        return StreamingResponse(body())

    @app.post("/written while it is streamed, and the body raises")
    async def broken(session: Any = given) -> StreamingResponse:
        used = session_of(session)

        async def body() -> Any:
            yield b"first"
            await work(used)
            raise Wrong

        return StreamingResponse(body())

    @app.post("/written in a background task")
    async def later(tasks: BackgroundTasks, session: Any = given) -> None:
        tasks.add_task(work, session_of(session))

    @app.post("/written before a background task that raises")
    async def before(tasks: BackgroundTasks, session: Any = given) -> None:
        async def fails() -> None:
            raise Wrong

        await work(session_of(session))
        tasks.add_task(fails)

    @app.websocket("/a websocket that is closed")
    async def socket(websocket: WebSocket, session: Any = given) -> None:
        await websocket.accept()
        await work(session_of(session))
        await websocket.close()

    @app.websocket("/a websocket whose handler raises")
    async def broken_socket(websocket: WebSocket, session: Any = given) -> None:
        await websocket.accept()
        await work(session_of(session))
        raise Wrong

    return app


def run(client: TestClient, ending: str) -> str | None:
    """Come to this end; "refused" where a closed session was used."""
    try:
        if "websocket" in ending:
            with client.websocket_connect(f"/{ending}") as socket:
                socket.receive()
        else:
            client.post(f"/{ending}")
    except SessionClosedError:
        return "refused"
    except Exception:
        return None
    return None


def behaviour(door: str, db: SQLAlchemy, row: Any, write: str, endings: Iterable[str]) -> dict[str, str]:
    """What each ending leaves behind."""
    found: dict[str, str] = {}
    with TestClient(application(door, db, row, write)) as client:
        for ending in endings:
            said = run(client, ending)
            is_kept = kept(db, row)
            found[ending] = said or ("kept" if is_kept else "rolled back")
    return found


@pytest.mark.backends("sqlite", "postgresql")
@pytest.mark.parametrize("door", REQUEST_DOORS)
def test_with_commit_on_exit_a_request_leaves_behind_what_the_table_says(door: str, database_url: str) -> None:
    db, row = database(database_url, commit_on_exit=True)
    said = {ending: cells[door] for ending, cells in ON_EXIT.items()}
    assert behaviour(door, db, row, "`session.add(row)`", ON_EXIT) == said
    db.dispose()


@pytest.mark.parametrize("door", REQUEST_DOORS)
@pytest.mark.parametrize("how", WRITES)
def test_who_writes_what_decides_as_the_table_says(door: str, how: str, sqlite_url: str) -> None:
    endings = [ending for ending, cells in ON_EXIT.items() if cells[door] != "refused"]
    for setting, cells in WRITES[how].items():
        on_exit, _, only = setting.partition(", ")
        db, row = database(sqlite_url, commit_on_exit=on_exit == "`commit_on_exit=True`")
        chosen = [ending for ending in endings if only in ("any end", ending)]
        assert chosen
        assert behaviour(door, db, row, how, chosen) == dict.fromkeys(chosen, cells)
        db.dispose()


@pytest.mark.backends("sqlite", "postgresql")
@pytest.mark.parametrize("block", SCRIPTS)
async def test_a_block_leaves_behind_what_the_table_says(block: str, database_url: str) -> None:
    db, row = database(database_url)
    db.create_all()
    for ending, said in SCRIPTS[block].items():
        opened = "".join(f"{'    ' * (depth + 1)}{line}\n" for depth, line in enumerate(re.findall("`(.+?)`", block)))
        indent = "    " * (opened.count("\n") + 1)
        session = "db.async_session" if "async" in block else "db.session"
        source = f"async def play():\n{opened}{indent}{session}.add(Row(name='one'))\n{indent}{ENDS[ending]}\n"
        names: dict[str, Any] = {"db": db, "Row": row, "Wrong": Wrong}
        exec(source, names)
        with suppress(Wrong):
            await names["play"]()
        assert ("kept" if kept(db, row) else "rolled back") == said, (block, ending)
    await db.adispose()
