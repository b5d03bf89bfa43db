"""A response given up half-way, most often because its client is gone, is no clean end: nothing is committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy

from .databases import Database, new_database
from .test_cancellation import DRIVERS

STEPS = "WITH RECURSIVE step(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < 60000000)"
SLOW = {
    "sqlite": f"{STEPS} SELECT max(n) FROM step",
    "postgresql": "SELECT pg_sleep(10)",
    "mariadb": "SELECT SLEEP(10)",
}


class Client:
    """An HTTP client, seen from the application, that goes away when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.status = 0
        self.received = b""

    async def request(self, app: Any, path: str) -> None:
        begun = False

        async def receive() -> Any:
            nonlocal begun
            if not begun:
                begun = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif not self.gone.is_set():
                self.received += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "scheme": "http",
            "root_path": "",
        }
        await app(scope, receive, send)


@pytest.mark.parametrize("writes", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("interrupted", ["in a statement", "between statements"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_stream_whose_client_is_gone_commits_nothing_and_raises_nothing(
    driver: str, interrupted: str, writes: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind, drivername = DRIVERS[driver]

    async def scenario(database: Database) -> None:
        db = SQLAlchemy(
            database.with_driver(drivername), commit_on_exit=True, engine_args={"pool_size": 1, "max_overflow": 0}
        )

        class Row(db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)

        await db.acreate_all()
        app = FastAPI()
        app.add_middleware(DBSessionMiddleware, db=db, create_tables=False)
        client = Client()

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def lines() -> AsyncIterator[str]:
                session = db.async_session
                yield f"{await session.scalar(sa.select(sa.func.count()).select_from(Row))}"
                if writes:
                    session.add(Row(id=1))
                    await session.flush()
                if interrupted == "in a statement":
                    asyncio.get_running_loop().call_later(0.05, client.gone.set)
                    await session.execute(sa.text(SLOW[kind]))
                else:
                    client.gone.set()
                    await asyncio.Event().wait()

            return StreamingResponse(lines())

        await client.request(app, "/stream")
        assert (client.status, client.received) == (200, b"0")
        async with db():
            assert await db.async_session.scalar(sa.select(sa.func.count()).select_from(Row)) == 0
        await db.adispose()

    with caplog.at_level(logging.WARNING, logger="fastapi_sqlalchemy"), new_database(kind, tmp_path) as database:
        asyncio.run(scenario(database))
        assert not [record for record in caplog.records if record.name == "fastapi_sqlalchemy"]
