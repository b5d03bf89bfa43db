"""R9: a network that fails between COMMIT and its answer: nobody says 2xx, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from .conftest import checked_out, doors, eventually
from .databases import new_database
from .proxy import Proxy
from .servers import Nursery
from .wire import Answer, fetch, percentile

DRIVERS = {
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "mariadb": ("mariadb", "mysql"),
}
OPTIONS = {"statement_timeout": 1, "connect_timeout": 1}


@pytest.mark.parametrize("driver", DRIVERS)
def test_r9_a_reply_to_commit_that_is_cut_is_a_503_and_nothing_is_written_twice(
    driver: str, nursery: Nursery, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    kind, drivername = DRIVERS[driver]
    n, answers = size(12, 200), list[Answer]()
    with new_database(kind, tmp_path) as database:
        target = sa.make_url(database.url)
        assert target.host is not None
        assert target.port is not None
        with Proxy(target.host, target.port) as proxy:
            url = target.set(drivername=drivername, port=proxy.port)
            env = {
                "RELIABILITY_URL": url.render_as_string(hide_password=False),
                "RELIABILITY_OPTIONS": json.dumps(OPTIONS),
                "PGSSLMODE": "disable",  # the proxy has to read along
            }
            server = nursery.start("shop", env=env)
            try:
                for number in range(n):
                    proxy.cut_reply_to(b"COMMIT")
                    path = f"{doors()[number % 4]}/items"
                    answers.append(asyncio.run(fetch(server.port, "POST", path, {"name": f"cut {number}"})))
                    assert proxy.cuts == number + 1
                    after = asyncio.run(fetch(server.port, "POST", path, {"name": "well"}))
                    assert after.status == 201
                assert eventually(lambda: checked_out(server) == 0)
            finally:
                server.stop()
        names = Counter(database.names())
    twice = [name for name, count in names.items() if name != "well" and count > 1]
    wrong = [answer.status for answer in answers if answer.status != 503]
    times = [answer.seconds for answer in answers]
    figure(
        "R9",
        variant=driver,
        n=n,
        failures=len(twice) + len(wrong),
        p50=percentile(times, 0.5),
        p99=percentile(times, 0.99),
    )
    assert wrong == []
    assert twice == []
    assert names["well"] == n


def test_a_server_that_swallows_its_answers_costs_a_503_by_the_deadline(nursery: Nursery, tmp_path: Path) -> None:
    with new_database("postgresql", tmp_path) as database:
        target = sa.make_url(database.url)
        assert target.host is not None
        assert target.port is not None
        with Proxy(target.host, target.port) as proxy:
            url = target.set(drivername="postgresql+psycopg", port=proxy.port)
            env = {
                "RELIABILITY_URL": url.render_as_string(hide_password=False),
                "RELIABILITY_OPTIONS": json.dumps(OPTIONS),
                "PGSSLMODE": "disable",  # the proxy has to read along
            }
            server = nursery.start("shop", env=env)
            try:
                assert asyncio.run(fetch(server.port, "GET", "/middleware/sync/items/1")).status == 404
                assert asyncio.run(fetch(server.port, "GET", "/middleware/async/items/1")).status == 404
                proxy.swallow = True
                for mode in ("sync", "async"):
                    answer = asyncio.run(fetch(server.port, "GET", f"/middleware/{mode}/items/1"))
                    assert (answer.status, answer.headers.get("retry-after")) == (503, "1")
                proxy.swallow = False
                for mode in ("sync", "async"):
                    assert asyncio.run(fetch(server.port, "GET", f"/middleware/{mode}/items/1")).status == 404
            finally:
                server.stop()
