"""Servers that are killed or told to end: what a client was told is stored, is stored."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import doors
from .databases import KINDS, new_database
from .ledger import LOST, Ledger
from .servers import AppServer, Nursery
from .wire import Connection, fetch, percentile


def writing_doors() -> list[str]:
    """The shop's doors, and as often that of generated routes, whose creates meet in groups."""
    return [prefix for door in doors() for prefix in (door, "/generated")]


@pytest.mark.parametrize("kind", KINDS)
def test_r1_no_acknowledged_write_is_lost_when_the_server_is_killed(
    kind: str, nursery: Nursery, tmp_path: Path, size: Callable[[int, int], int], seed: int, figure: Any
) -> None:
    cycles, chance, ledger = size(5, 200), random.Random(seed), Ledger()

    async def cycle(server: AppServer) -> None:
        prefixes = [writing_doors()[i % 8] for i in range(12)]
        writers = [asyncio.create_task(ledger.write_until_it_ends(server.port, prefix)) for prefix in prefixes]
        enough = len(ledger.acknowledged) + chance.randrange(20, 120)
        while len(ledger.acknowledged) < enough:
            await asyncio.sleep(chance.random() * 0.005)
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*writers)

    with new_database(kind, tmp_path) as database:
        for _ in range(cycles):
            server = nursery.start("generated", env={"RELIABILITY_URL": database.url})
            try:
                asyncio.run(cycle(server))
            finally:
                server.kill()
        lost = ledger.lost(database)
        figure("R1", variant=kind, n=cycles, seed=seed, failures=len(lost), acknowledged=len(ledger.acknowledged))
        assert lost == set()
        assert ledger.statuses == []


def test_r25_four_processes_write_one_sqlite_file_without_a_locked_error(
    nursery: Nursery, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    processes, writers, n, ledger = 4, 16, size(800, 10_000), Ledger()
    seconds: list[float] = []

    async def write(port: int, prefix: str, turns: int) -> None:
        async with Connection(port) as connection:
            for _ in range(turns):
                begun = time.perf_counter()
                await ledger.write(connection, prefix)
                seconds.append(time.perf_counter() - begun)

    async def scenario(servers: list[AppServer]) -> None:
        turns = -(-n // (processes * writers))
        prefixes = [writing_doors()[i % 8] for i in range(writers)]
        await asyncio.gather(*(write(server.port, prefix, turns) for server in servers for prefix in prefixes))

    with new_database("sqlite", tmp_path) as database:
        servers = [nursery.start("generated", env={"RELIABILITY_URL": database.url}) for _ in range(processes)]
        try:
            asyncio.run(scenario(servers))
        finally:
            for server in servers:
                server.stop()
        lost, locked = ledger.lost(database), sum("locked" in server.log for server in servers)
        sent = len(ledger.acknowledged) + len(ledger.statuses)
        figure(
            "R25",
            variant="sqlite",
            n=sent,
            failures=len(lost) + len(ledger.statuses) + locked,
            p50=percentile(seconds, 0.5),
            p99=percentile(seconds, 0.99),
            slowest=max(seconds),
        )
        assert (lost, ledger.statuses, locked) == (set(), [], 0)
        assert database.scalar("SELECT count(*) FROM item") == sent
        assert database.scalars("PRAGMA integrity_check") == ["ok"]


@pytest.mark.parametrize("kind", KINDS)
def test_r31_sigterm_lets_the_work_in_flight_finish(
    kind: str, nursery: Nursery, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    cycles, ledger = size(3, 100), Ledger()
    unanswered: list[str] = []
    seconds: list[float] = []

    async def slow_request(port: int, prefix: str) -> None:
        try:
            async with Connection(port) as connection:
                await ledger.write(connection, prefix, "pause/50")
        except LOST as error:
            unanswered.append(f"{prefix}: {error!r}")

    async def cycle(server: AppServer) -> None:
        slow = [asyncio.create_task(slow_request(server.port, prefix)) for prefix in doors()]
        writers = [asyncio.create_task(ledger.write_until_it_ends(server.port, prefix)) for prefix in doors()]
        while int((await fetch(server.port, "GET", "/checked-out")).body) == 0:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        server.terminate()
        seconds.append(await asyncio.to_thread(server.wait))
        await asyncio.gather(*slow, *writers)

    with new_database(kind, tmp_path) as database:
        for _ in range(cycles):
            server = nursery.start("shop", env={"RELIABILITY_URL": database.url})
            try:
                asyncio.run(cycle(server))
            finally:
                server.kill()
            assert "Traceback" not in server.log, server.log
        lost = ledger.lost(database)
        figure("R31", variant=kind, n=cycles, failures=len(lost) + len(unanswered), slowest_exit=max(seconds))
        assert (lost, unanswered, set(ledger.statuses)) == (set(), [], {200})
        assert max(seconds) < 5
