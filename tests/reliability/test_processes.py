"""A fork gets engines of its own, and so does every event loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from tests.support.nursery import ROOT, environment, python

from .databases import KINDS, new_database

ASYNC_DRIVERS = {
    "aiosqlite": ("sqlite", "sqlite+aiosqlite"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "asyncmy": ("mariadb", "mariadb+asyncmy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_r33_forked_children_never_share_a_connection_with_their_parent(
    kind: str, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    children = size(4, 100)
    with new_database(kind, tmp_path) as database:
        ended = subprocess.run(
            [python(), "-W", "error", "-m", "tests.reliability.forking", database.url, str(children)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    figure("R33", variant=kind, n=children, failures=int(ended.returncode != 0 or bool(ended.stderr)))
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_r34_one_database_serves_many_event_loops_in_turn(
    driver: str, tmp_path: Path, size: Callable[[int, int], int], figure: Any
) -> None:
    kind, drivername = ASYNC_DRIVERS[driver]
    loops = size(20, 100)

    async def work(db: SQLAlchemy, number: int) -> int:
        async def ask() -> int:
            async with db():
                return int(await db.async_session.scalar(sa.select(sa.literal(number))) or 0)

        answers = await asyncio.gather(*(ask() for _ in range(4)))
        return answers.count(number)

    with new_database(kind, tmp_path) as database:
        db = SQLAlchemy(database.with_driver(drivername))
        right = [asyncio.run(work(db, number)) for number in range(loops)]
        gc.collect()
    figure("R34", variant=driver, n=loops, failures=loops - right.count(4))
    assert right == [4] * loops
