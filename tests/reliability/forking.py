"""A program that forks while its pools hold live connections; prints the rows that its children stored.

``python -m tests.reliability.forking URL CHILDREN`` ends with 0 when parent and children all got right answers.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy

ROUNDS = 20
AT_ONCE = 10
"""Children that live at one time: a server has a hundred connections, and SQLite one writer, waited for unfairly."""

db = SQLAlchemy(sys.argv[1], engine_args={"pool_size": 5, "max_overflow": 0}, sqlite={"busy_timeout": 30})


class Row(db.Base):  # type: ignore[misc, name-defined]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]


def work(owner: int) -> None:
    """Store and count rows of this process: with a shared connection, answers would reach the wrong process."""
    for _ in range(ROUNDS):
        with db(commit_on_exit=True):
            db.session.add(Row(owner=owner))
        with db():
            assert db.session.scalar(sa.select(sa.literal(owner))) == owner


async def work_async(owner: int) -> None:
    for _ in range(ROUNDS):
        async with db(commit_on_exit=True):
            db.async_session.add(Row(owner=owner))
        async with db():
            assert await db.async_session.scalar(sa.select(sa.literal(owner))) == owner
    await db.adispose()


def fork_children(owners: Iterable[int]) -> list[int]:
    """Fork while a connection is checked out, and others wait in the pool."""
    children: list[int] = []
    with db():
        db.session.execute(sa.select(Row.id))
        for owner in owners:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    work(owner)
                    asyncio.run(work_async(owner))
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            children.append(child)
        assert db.session.scalar(sa.select(sa.literal(0))) == 0
    return children


def fill_pool() -> None:
    """Leave several idle connections in the pool."""
    together = threading.Barrier(3)

    def use() -> None:
        with db():
            db.session.execute(sa.select(Row.id))
            together.wait()

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    children = int(sys.argv[2])
    db.create_all()
    statuses: list[int] = []
    starts = range(1, children + 1, AT_ONCE)
    for first in starts:
        fill_pool()
        pids = fork_children(range(first, min(first + AT_ONCE, children + 1)))
        work(0)
        statuses += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    work(0)
    asyncio.run(work_async(0))
    with db():
        rows = db.session.execute(sa.select(Row.owner, sa.func.count()).group_by(Row.owner))
        stored = {owner: number for owner, number in rows}  # noqa: C416  # rows are no pairs to a type checker
    db.dispose()
    expected = {0: (len(starts) + 2) * ROUNDS, **dict.fromkeys(range(1, children + 1), 2 * ROUNDS)}
    if any(statuses) or stored != expected:
        sys.exit(f"children ended with {statuses}, stored {stored} instead of {expected}")


if __name__ == "__main__":
    main()
