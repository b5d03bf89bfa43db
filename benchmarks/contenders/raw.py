"""The driver itself on bare Starlette routes: the limit of what can be had."""

from __future__ import annotations

import sqlite3
from typing import Any

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.urls import URL

NAMES = ("id", "name", "email", "age", "city", "is_active")
COLUMNS = "SELECT id, name, email, age, city, is_active FROM bench_user "
pools: list[Any] = []


def answer(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def plain(_request: Request) -> Response:
    return answer({"ok": True})


if URL.startswith("sqlite"):
    connection = sqlite3.connect(URL.removeprefix("sqlite:///"), isolation_level=None)

    def as_object(row: tuple[Any, ...]) -> dict[str, Any]:
        return {**dict(zip(NAMES, row, strict=True)), "is_active": bool(row[5])}

    async def read_user(request: Request) -> Response:
        found = connection.execute(f"{COLUMNS} WHERE id = ?", (int(request.path_params["pk"]),)).fetchone()
        return answer(as_object(found))

    async def read_users(request: Request) -> Response:
        limit = int(request.query_params["limit"])
        found = connection.execute(f"{COLUMNS} ORDER BY id LIMIT ?", (limit,)).fetchall()
        return answer([as_object(row) for row in found])

else:

    async def pool() -> Any:
        if not pools:
            pools.append(await asyncpg.create_pool(URL, min_size=5, max_size=15))
        return pools[0]

    async def read_user(request: Request) -> Response:
        found = await (await pool()).fetchrow(f"{COLUMNS} WHERE id = $1", int(request.path_params["pk"]))
        return answer(dict(found))

    async def read_users(request: Request) -> Response:
        limit = int(request.query_params["limit"])
        found = await (await pool()).fetch(f"{COLUMNS} ORDER BY id LIMIT $1", limit)
        return answer([dict(row) for row in found])


app = Starlette(routes=[Route("/plain", plain), Route("/users/{pk}", read_user), Route("/users", read_users)])
