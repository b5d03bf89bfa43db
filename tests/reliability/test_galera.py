"""MariaDB Galera: writes on several nodes that collide are found at COMMIT, and run again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.transactions import is_conflict

from .galera import Galera

pytestmark = [
    pytest.mark.xdist_group("galera"),
    pytest.mark.skipif(
        os.environ.get("RELIABILITY", "small") == "small",
        reason="THE GALERA CLUSTER TAKES PART IN make reliability ONLY",
    ),
]

RETRIES = 50
WORKERS = 6


@pytest.fixture(scope="module")
def cluster() -> Iterator[Galera]:
    cluster = Galera()
    yield cluster
    cluster.remove()


@pytest.fixture
def databases(cluster: Galera) -> Iterator[list[SQLAlchemy]]:
    cluster.nodes[0].run(
        "CREATE OR REPLACE TABLE test.counter (id int PRIMARY KEY, value int)", "INSERT INTO test.counter VALUES (1, 0)"
    )
    databases = [SQLAlchemy(node.url) for node in cluster.nodes]
    yield databases
    for db in databases:
        db.dispose()


INCREMENT = sa.text("UPDATE counter SET value = value + 1 WHERE id = 1")


def value_of(cluster: Galera) -> list[int]:
    """The counter as each node shows it once it has applied what the others committed."""
    return [
        int(node.run("SET SESSION wsrep_sync_wait = 1", "SELECT value FROM test.counter")[0]) for node in cluster.nodes
    ]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_r8_increments_on_three_nodes_are_never_lost(
    cluster: Galera, databases: list[SQLAlchemy], asynchronous: bool, figure: Any
) -> None:
    n, attempts, unexpected = 600, [], list[BaseException]()

    def work(number: int) -> int:
        db = databases[number % 3]

        @db.transaction(retries=RETRIES)
        def increment() -> None:
            attempts.append(number)
            db.session.execute(INCREMENT)

        done = 0
        for _ in range(n // WORKERS):
            try:
                increment()
            except sa.exc.DBAPIError as error:
                if not is_conflict(error):
                    unexpected.append(error)
            else:
                done += 1
        return done

    async def work_async(number: int) -> int:
        db = databases[number % 3]

        @db.transaction(retries=RETRIES)
        async def increment() -> None:
            attempts.append(number)
            await db.async_session.execute(INCREMENT)

        done = 0
        for _ in range(n // WORKERS):
            try:
                await increment()
            except sa.exc.DBAPIError as error:
                if not is_conflict(error):
                    unexpected.append(error)
            else:
                done += 1
        return done

    async def main() -> list[int]:
        try:
            return await asyncio.gather(*(work_async(number) for number in range(WORKERS)))
        finally:
            for db in databases:
                await db.adispose()

    if asynchronous:
        acknowledged = sum(asyncio.run(main()))
    else:
        with ThreadPoolExecutor(WORKERS) as pool:
            acknowledged = sum(pool.map(work, range(WORKERS)))
    values = value_of(cluster)
    conflicts = len(attempts) - acknowledged
    lost = sum(abs(value - acknowledged) for value in values)
    name = "galera async" if asynchronous else "galera sync"
    figure("R8", variant=name, n=n, failures=lost + len(unexpected), acknowledged=acknowledged, run_again=conflicts)
    assert unexpected == []
    assert values == [acknowledged] * 3
    assert conflicts > 0
    assert acknowledged == n


def test_a_node_that_is_not_ready_is_asked_again(cluster: Galera, databases: list[SQLAlchemy]) -> None:
    node, db, attempts = cluster.nodes[1], databases[1], 0

    @db.transaction(retries=3)
    def increment() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            node.run("SET GLOBAL wsrep_reject_queries = NONE")
        db.session.execute(INCREMENT)

    with db():
        db.session.execute(sa.text("SELECT 1"))
    node.run("SET GLOBAL wsrep_reject_queries = ALL")
    try:
        increment()
    finally:
        node.run("SET GLOBAL wsrep_reject_queries = NONE")
    assert attempts == 2
    assert value_of(cluster) == [1, 1, 1]
