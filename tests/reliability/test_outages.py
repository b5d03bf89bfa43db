"""A database that restarts, dies, ends sessions or freezes: clients see a 503 at worst, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest

from .conftest import checked_out, doors, eventually
from .databases import Database, OwnPostgres
from .ledger import Ledger
from .servers import AppServer, Nursery
from .wire import Answer, Connection, fetch, percentile

OPTIONS = {"pool_timeout": 1, "statement_timeout": 1, "connect_timeout": 1}
DEADLINE = 1.0
GRACE = 0.5
PLAIN = 0.05
FEW = 2
"""Requests through each door that a pool of five serves in a second on a busy machine, too."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    server = OwnPostgres()
    yield server
    server.remove()


@pytest.fixture(scope="module", params=["postgresql+psycopg", "postgresql+asyncpg"])
def database(request: pytest.FixtureRequest, postgres: OwnPostgres) -> Iterator[Database]:
    database = Database("postgresql", postgres.url)
    database.url = database.with_driver(request.param)
    yield database
    database.engine.dispose()


@pytest.fixture(scope="module")
def shop(database: Database, nursery: Nursery) -> Iterator[AppServer]:
    env = {"RELIABILITY_URL": database.url, "RELIABILITY_OPTIONS": json.dumps(OPTIONS)}
    server = nursery.start("shop", env=env)
    yield server
    server.stop()
    assert "never retrieved" not in server.log, server.log
    assert "Exception in ASGI" not in server.log, server.log


@pytest.fixture
def variant(database: Database) -> str:
    return database.url.partition(":")[0]


async def load(port: int, writers: int, ledger: Ledger, during: Coroutine[Any, Any, None]) -> None:
    """Write all the while that ``during`` runs."""
    tasks = [asyncio.create_task(ledger.write_until_it_ends(port, doors()[i % 4])) for i in range(writers)]
    try:
        await during
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def every_door(port: int, times: int = 5) -> list[int]:
    """The statuses of writes and reads through every door, several at once."""

    async def one(prefix: str) -> list[int]:
        made = await fetch(port, "POST", f"{prefix}/items", {"name": "check"})
        number = made.json().get("id", 0)
        return [made.status, (await fetch(port, "GET", f"{prefix}/items/{number}")).status]

    found = await asyncio.gather(*(one(prefix) for prefix in doors() for _ in range(times)))
    return [status for statuses in found for status in statuses]


def test_r2_no_acknowledged_write_is_lost_when_the_database_is_killed(
    postgres: OwnPostgres,
    shop: AppServer,
    database: Database,
    variant: str,
    size: Callable[[int, int], int],
    figure: Any,
) -> None:
    ledger, cycles = Ledger(), size(2, 50)

    async def kill_and_restart() -> None:
        enough = len(ledger.acknowledged) + 100
        while len(ledger.acknowledged) < enough:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(postgres.stop, immediately=True)
        await asyncio.to_thread(postgres.start)

    for _ in range(cycles):
        asyncio.run(load(shop.port, 12, ledger, kill_and_restart()))
    lost = ledger.lost(database)
    statuses = Counter(ledger.statuses)
    figure(
        "R2", variant=variant, n=cycles, failures=len(lost), acknowledged=len(ledger.acknowledged), errors=statuses[503]
    )
    assert lost == set()
    assert set(statuses) <= {503}


def test_r17_a_restart_with_an_idle_pool_is_not_seen_by_clients(
    postgres: OwnPostgres, shop: AppServer, variant: str, size: Callable[[int, int], int], figure: Any
) -> None:
    cycles, statuses = size(3, 50), list[int]()
    for _ in range(cycles):
        assert set(asyncio.run(every_door(shop.port, FEW))) == {200, 201}
        postgres.stop()
        postgres.start()
        statuses += asyncio.run(every_door(shop.port, FEW))
    failures = [status for status in statuses if status >= 300]
    figure("R17", variant=variant, n=cycles, failures=len(failures), requests=len(statuses))
    assert failures == []


def test_r18_a_restart_under_load_is_a_503_and_over_within_a_second(
    postgres: OwnPostgres,
    shop: AppServer,
    database: Database,
    variant: str,
    size: Callable[[int, int], int],
    figure: Any,
) -> None:
    cycles, ledger, recovered = size(1, 30), Ledger(), list[float]()

    async def restart() -> None:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)
        begun = time.monotonic()
        while set(await every_door(shop.port, 1)) != {200, 201}:
            pass
        recovered.append(time.monotonic() - begun)

    for _ in range(cycles):
        asyncio.run(load(shop.port, 12, ledger, restart()))
    statuses, lost = Counter(ledger.statuses), ledger.lost(database)
    figure("R18", variant=variant, n=cycles, failures=len(lost), errors=statuses[503], slowest_recovery=max(recovered))
    assert lost == set()
    assert set(statuses) == {503}
    assert max(recovered) < size(10, 1)  # the small form runs beside other tests


def test_r19_reads_survive_backends_that_are_terminated_and_failed_writes_are_503(
    postgres: OwnPostgres,
    shop: AppServer,
    database: Database,
    variant: str,
    size: Callable[[int, int], int],
    seed: int,
    figure: Any,
) -> None:
    seconds, chance, ledger = size(5, 60) / 2, random.Random(seed), Ledger()
    reads: list[Answer] = []
    terminated = 0

    async def read(prefix: str) -> None:
        async with Connection(shop.port) as connection:
            while True:
                reads.append(await connection.request("GET", f"{prefix}/items/1"))

    async def terminate() -> None:
        nonlocal terminated
        readers = [asyncio.create_task(read(prefix)) for prefix in doors() for _ in range(2)]
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as admin:
            give_up = time.monotonic() + seconds
            while time.monotonic() < give_up:
                await asyncio.sleep(0.1)
                cursor = await admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
                pids = [row[0] for row in await cursor.fetchall()]
                if pids:
                    await admin.execute("SELECT pg_terminate_backend(%s)", [chance.choice(pids)])
                    terminated += 1
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    assert asyncio.run(fetch(shop.port, "POST", "/middleware/sync/items", {"name": "first"})).status == 201
    written_before = len(shop.log)
    asyncio.run(load(shop.port, 4, ledger, terminate()))
    statuses, lost = Counter(ledger.statuses), ledger.lost(database)
    failed = [(answer.status, answer.body) for answer in reads if answer.status != 200]
    figure(
        "R19",
        variant=variant,
        n=terminated,
        seed=seed,
        failures=len(lost) + len(failed),
        reads=len(reads),
        writes=len(ledger.acknowledged),
        failed_writes=statuses[503],
    )
    assert (failed, lost) == ([], set())
    assert set(statuses) <= {503}
    assert "Traceback" not in shop.log[written_before:], shop.log[written_before:]


def test_r20_frozen_backends_cost_a_503_by_the_deadline_and_other_routes_nothing(
    postgres: OwnPostgres, shop: AppServer, variant: str, size: Callable[[int, int], int], figure: Any
) -> None:
    answers: list[Answer] = []
    plain: list[float] = []

    async def ask_plainly() -> None:
        async with Connection(shop.port) as connection:
            while True:
                for door in ("middleware", "dependency"):
                    plain.append((await connection.request("GET", f"/{door}/plain")).seconds)
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        await every_door(shop.port)
        with postgres.frozen():
            asking = asyncio.create_task(ask_plainly())
            requests = [fetch(shop.port, "GET", f"{prefix}/items/1") for prefix in doors() for _ in range(2)]
            requests += [fetch(shop.port, "POST", f"{prefix}/items", {"name": "r20"}) for prefix in doors()]
            answers.extend(await asyncio.gather(*requests))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    for _ in range(size(1, 20)):
        asyncio.run(scenario())
        assert eventually(lambda: checked_out(shop) == 0)
        assert set(asyncio.run(every_door(shop.port))) == {200, 201}
    late = [answer for answer in answers if answer.seconds > DEADLINE + GRACE]
    p99 = percentile(plain, 0.99)
    figure(
        "R20",
        variant=variant,
        n=len(answers),
        failures=len(late) + (p99 > PLAIN),
        statuses=dict(Counter(answer.status for answer in answers)),
        slowest=max(answer.seconds for answer in answers),
        plain_p99=p99,
    )
    assert {answer.status for answer in answers} == {503}
    # the small form runs beside other tests: it tells that nobody waited for the frozen server
    assert max(answer.seconds for answer in answers) < DEADLINE + GRACE * size(10, 1)
    assert p99 < PLAIN * size(20, 1)
