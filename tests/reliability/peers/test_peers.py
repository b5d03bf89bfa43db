"""R3, R4, R5, R11 and R14 against the same small application, made with this package and with others."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.environments import python_of
from tests.reliability.databases import Database
from tests.reliability.servers import free_port
from tests.reliability.wire import Answer, Connection, fetch, percentile
from tests.support.nursery import ROOT

PEERS: dict[str, tuple[str, str | None]] = {
    "this package": ("ours", None),
    "tutorial code": ("tutorial", None),
    "fastapi-sqlalchemy 0.2.1": ("ours", "fastapi_sqlalchemy_021"),
    "FastCRUD": ("generated", "fastcrud"),
}
"""The application of each, and the environment of the benchmarks that it runs in."""

TABLE = (
    "CREATE TABLE peer_item (id SERIAL PRIMARY KEY, name VARCHAR(60) NOT NULL, "
    "parent_id INTEGER REFERENCES peer_item (id) DEFERRABLE INITIALLY DEFERRED)"
)
MISSING = 2_000_000_000


class Peer:
    """One application under uvicorn, and the database that it serves."""

    def __init__(self, python: Path, app: str, database: Database) -> None:
        self.port = free_port()
        self.database = database
        paths = [str(ROOT)] + ([str(ROOT / "src")] if python == Path(sys.executable) else [])
        address = [f"tests.reliability.peers.{app}:app", "--port", str(self.port), "--backlog", "4096"]
        self._process = subprocess.Popen(
            [str(python), "-m", "uvicorn", *address, "--log-level", "critical", "--no-access-log"],
            cwd=ROOT / "tests",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RELIABILITY_URL": database.url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 30
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError(f"{app} did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def stored(self, name: str) -> int:
        return self.database.scalar(f"SELECT count(*) FROM peer_item WHERE name = '{name}'")

    async def post(self, name: str, path: str = "/items", **more: Any) -> Answer:
        return await asyncio.wait_for(fetch(self.port, "POST", path, {"name": name, **more}), 30)


async def r3(peer: Peer, share: float) -> dict[str, Any]:
    n, missed, times = max(100, round(10_000 * share)), 0, list[float]()
    for _ in range(n):
        made = await peer.post("r3")
        number = made.json().get("id") if made.status < 300 else None
        seen = await fetch(peer.port, "GET", f"/items/{number}")
        missed += seen.status != 200
        times.append(made.seconds)
    return {"n": n, "failures": missed, "p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


async def r4(peer: Peer, share: float) -> dict[str, Any]:
    statuses = await statuses_of(peer, max(50, round(500 * share)), "r4", "/items", parent_id=MISSING)
    false = sum(0 < status < 300 for status in statuses)
    return {"n": len(statuses), "failures": false + statuses.count(0) + peer.stored("r4"), **told(statuses)}


async def r5(peer: Peer, share: float) -> dict[str, Any]:
    statuses = await statuses_of(peer, max(100, round(1_000 * share)), "r5", "/refused")
    return {"n": len(statuses), "failures": statuses.count(0) + peer.stored("r5"), **told(statuses)}


async def statuses_of(peer: Peer, n: int, name: str, path: str, **more: Any) -> list[int]:
    """The statuses of n requests, one after the other; 0, and no more of them, once one gets no answer."""
    statuses: list[int] = []
    while len(statuses) < n and 0 not in statuses:
        try:
            statuses.append((await peer.post(name, path, **more)).status)
        except (TimeoutError, OSError, EOFError):
            statuses.append(0)
    return statuses


def told(statuses: list[int]) -> dict[str, Any]:
    answered = sorted(set(statuses) - {0})
    return {"statuses": answered, "unanswered": statuses.count(0) or None}


async def r11(peer: Peer, share: float) -> dict[str, Any]:
    begun = time.monotonic()
    clients = (asyncio.wait_for(fetch(peer.port, "GET", "/items"), 30) for _ in range(1_000))
    answers = await asyncio.gather(*clients, return_exceptions=True)
    served = [answer.seconds for answer in answers if isinstance(answer, Answer) and answer.status == 200]
    return {
        "n": 1_000,
        "failures": 1_000 - len(served),
        "p50": percentile(served, 0.5),
        "p99": percentile(served, 0.99),
        "seconds": round(time.monotonic() - begun, 1),
    }


async def r14(peer: Peer, share: float) -> dict[str, Any]:
    n, seed, slots = max(200, round(10_000 * share)), random.randrange(10**6), asyncio.Semaphore(20)
    chance = random.Random(seed)

    async def vanish() -> None:
        async with slots, Connection(peer.port) as connection:
            if chance.random() < 0.5:
                await connection.send("POST", "/items", {"name": "r14"})
            else:
                await connection.send("GET", "/pause")
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.receive(), chance.random() * 0.03)
            connection.reset()

    await asyncio.gather(*(vanish() for _ in range(n)), return_exceptions=True)
    left, give_up = -1, time.monotonic() + 20 + n / 50
    while left != 0 and time.monotonic() < give_up:
        await asyncio.sleep(0.1)
        with suppress(OSError, EOFError, TimeoutError):
            out = await asyncio.wait_for(fetch(peer.port, "GET", "/checked-out"), 5)
            left = int(out.body) + peer.database.open_transactions()
    return {"n": n, "seed": seed, "failures": left}


RUNS = {"r3": r3, "r4": r4, "r5": r5, "r11": r11, "r14": r14}


@pytest.mark.skipif("RELIABILITY_PEERS" not in os.environ, reason="THE PEERS TAKE PART IN make reliability ONLY")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("line", RUNS)
def test_a_peer_at_the_same_work(line: str, name: str, postgres_url: str, figure: Any) -> None:
    """Its figures are told, and not judged; ours are."""
    app, environment = PEERS[name]
    python = Path(sys.executable) if environment is None else python_of(CONTENDERS[environment])
    if python is None:
        pytest.skip(f"NO ENVIRONMENT FOR {name}")
    database = Database("postgresql", postgres_url)
    database.url = database.with_driver("postgresql+psycopg")
    database.run(TABLE)
    wanted = os.environ.get("RELIABILITY", "small")
    share = {"small": 0.0, "full": 1.0}.get(wanted)
    peer = Peer(python, app, database)
    try:
        entry = asyncio.run(RUNS[line](peer, float(wanted) if share is None else share))
    finally:
        peer.stop()
        database.engine.dispose()
    figure(line.upper(), variant=f"postgresql, the same small application: {name}", **entry)
    if environment is None and app == "ours":
        assert entry["failures"] == 0
