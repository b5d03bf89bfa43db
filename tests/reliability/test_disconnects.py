"""R14: clients that vanish at any moment leave no connection and no transaction behind.

They come faster than the server can serve them: when the last one is gone, it still works for those who wanted to
change something.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .conftest import checked_out, doors, eventually
from .databases import Database
from .servers import AppServer
from .wire import Connection, fetch

NEW = {"name": "r14"}


def test_r14_clients_that_reset_their_connection_leave_nothing_behind(
    shop: AppServer, database: Database, size: Callable[[int, int], int], seed: int, figure: Any
) -> None:
    n, chance = size(200, 10_000), random.Random(seed)
    requests: list[tuple[str, str, Any]] = [
        (method, f"{prefix}/{path}", body)
        for prefix in doors()
        for method, path, body in (("POST", "items", NEW), ("POST", "pause/15", NEW), ("GET", "pause/15", None))
    ]
    requests += [("GET", f"/middleware/{path}", None) for path in ("stream?rows=300", "stream-async?rows=300")]

    async def vanish(slots: asyncio.Semaphore) -> None:
        method, path, body = chance.choice(requests)
        async with slots, Connection(shop.port) as connection:
            if body is not None and chance.random() < 0.2:
                writer = await connection.open()
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
            else:
                await connection.send(method, path, body)
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.receive(), chance.random() * 0.03)
            connection.reset()

    async def scenario() -> None:
        slots = asyncio.Semaphore(20)
        await asyncio.gather(*(vanish(slots) for _ in range(n)))

    written_before = len(shop.log)
    asyncio.run(scenario())
    everything_returned = eventually(lambda: checked_out(shop) == 0, 10 + n / 50)
    left_open = database.open_transactions()
    failures = left_open + (0 if everything_returned else checked_out(shop))
    figure("R14", variant=database.kind, n=n, seed=seed, failures=failures)
    assert everything_returned
    assert left_open == 0
    for prefix in doors():
        assert asyncio.run(fetch(shop.port, "POST", f"{prefix}/items", NEW)).status == 201
    assert "Traceback" not in shop.log[written_before:], shop.log[written_before:]
