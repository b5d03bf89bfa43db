"""Creates of SQLite that meet share one transaction, and each is answered as if it had been alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import Session, SQLAlchemy
from fastapi_sqlalchemy.engines.turns import writers_turn
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.rest.fast import group_commit
from tests.rest.test_fast_ways import listening
from tests.support.calls import Answer, get

pytestmark = pytest.mark.anyio

LONG = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT max(i) FROM n)"


class System:
    """An application with one table, a table that triggers write to, and the statements of its connections."""

    def __init__(self, path: Path, *ddl: str, **options: Any) -> None:
        self.path = path
        self.db = SQLAlchemy(f"sqlite:///{path}", **options)
        self.asked: list[str] = []

        class Part(self.db.Base):  # type: ignore[misc, name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            code: Mapped[str] = mapped_column(sa.String(200_000), unique=True)
            parent_id: Mapped[int | None] = mapped_column(
                sa.ForeignKey("part.id", deferrable=True, initially="DEFERRED")
            )

        self.Part = Part
        self.app = FastAPI()
        self.app.include_router(CRUDRouter(Part, db=self.db))

        @event.listens_for(self.db.engine, "connect")
        def watch(connection: Any, _record: Any) -> None:
            connection.set_trace_callback(self.asked.append)

        with self.db.engine.begin() as connection:
            for statement in ddl:
                connection.exec_driver_sql(statement)
        self.db.create_all()

    async def post(self, code: str, **values: Any) -> Answer:
        body = orjson.dumps({"code": code, **values})
        return await get(self.app, "/part", "POST", body, content_type="application/json")

    async def post_at_once(self, codes: list[str]) -> list[Answer]:
        """The answers to creates that all wait for one turn."""
        async with self.turn():
            tasks = [asyncio.create_task(self.post(code)) for code in codes]
            await settled()
        return await asyncio.gather(*tasks)

    def turn(self) -> Any:
        return writers_turn(str(self.path), None)

    def scalars(self, query: str) -> list[Any]:
        with sqlite3.connect(self.path) as connection:
            found = [row[0] for row in connection.execute(query)]
        connection.close()
        return found

    def codes(self) -> list[str]:
        return self.scalars("SELECT code FROM part ORDER BY id")

    def commits(self) -> int:
        return self.asked.count("COMMIT")

    def idle(self) -> bool:
        pool = self.db.engine.pool
        assert isinstance(pool, sa.QueuePool)
        return pool.checkedout() == 0


async def settled() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@contextmanager
def locked(path: Path, begin: str = "BEGIN IMMEDIATE") -> Generator[sqlite3.Connection]:
    """The lock of a file, held by a program of somebody else."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(begin)
    try:
        yield other
    finally:
        other.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for every group on a machine that is busy."""
    monkeypatch.setattr(group_commit, "SECONDS", 60)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    found = System(tmp_path / "parts.db")
    yield found
    await found.db.adispose()


@pytest.mark.usefixtures("patient")
async def test_creates_that_meet_share_a_commit(system: System, figure: Any) -> None:
    await system.post("first")
    system.asked.clear()
    answers = await asyncio.gather(*(system.post(f"c{number}") for number in range(32)))
    assert {answer.status for answer in answers} == {201}
    assert len(system.codes()) == 33
    commits = system.commits()
    figure("SPEED", variant="sqlite commits of 32 creates", n=32, failures=int(commits > 2), commits=commits, bound=2)
    assert commits == 2  # that of the first, and one for those who came while it wrote


async def test_a_create_that_meets_nobody_is_written_at_once(system: System) -> None:
    await system.post("first")
    system.asked.clear()
    await system.post("second")
    assert [text.split()[0] for text in system.asked] == [
        "PRAGMA",
        "BEGIN",
        "PRAGMA",
        "INSERT",
        "COMMIT",
    ]  # busy_timeout


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("round_", range(3))
async def test_of_32_clients_exactly_those_with_a_duplicate_get_a_409(system: System, round_: int) -> None:
    await system.post("taken")
    codes = [("taken", f"new {number}", f"twice {number // 8}", f"good {number}")[number % 4] for number in range(32)]
    answers = await system.post_at_once(codes)
    created = {code for code, answer in zip(codes, answers, strict=True) if answer.status == 201}
    assert created == set(codes) - {"taken"}
    assert sorted(answer.status for answer in answers) == [201] * len(created) + [409] * (32 - len(created))
    assert sorted(system.codes()) == sorted(created | {"taken"})
    for code, answer in zip(codes, answers, strict=True):
        if answer.status == 201:
            found = await get(system.app, answer.headers["location"])
            assert (found.body, orjson.loads(found.body)["code"]) == (answer.body, code)


FAILING = ("after", "before", "check", "unique")
SCHEMAS = {
    conflict: [
        "CREATE TABLE log (text TEXT)",
        "CREATE TABLE part (id INTEGER PRIMARY KEY, code TEXT, parent_id INTEGER, "
        f"CHECK (code NOT LIKE 'check%'), UNIQUE (code) ON CONFLICT {conflict})",
        "CREATE TRIGGER before_part BEFORE INSERT ON part BEGIN INSERT INTO log VALUES ('before ' || new.code); "
        f"SELECT RAISE({conflict}, 'refused') WHERE new.code LIKE 'before%'; END",
        "CREATE TRIGGER after_part AFTER INSERT ON part BEGIN INSERT INTO log VALUES ('after ' || new.code); "
        f"SELECT RAISE({conflict}, 'refused') WHERE new.code LIKE 'after%'; END",
    ]
    for conflict in ("ABORT", "FAIL", "ROLLBACK")
}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("conflict", SCHEMAS)
@pytest.mark.parametrize("failing", FAILING)
async def test_one_that_fails_takes_nothing_of_others_and_leaves_nothing(
    tmp_path: Path, conflict: str, failing: str
) -> None:
    codes = [f"good {number}" for number in range(8)]
    codes[2] = codes[5] = failing
    told: list[Any] = []
    for way in ("group", "ordinary"):
        system = System(tmp_path / f"{way}.db", *SCHEMAS[conflict])
        await system.post("unique")
        if way == "group":
            answers = await system.post_at_once(codes)
            assert "SAVEPOINT member" in system.asked
        else:
            with listening(system.db.engine, "before_cursor_execute"):
                answers = [await system.post(code) for code in codes]
        refused = 409 if failing == "unique" else 422
        assert [answer.status for answer in answers] == [refused if code == failing else 201 for code in codes]
        told.append(
            [
                [(answer.status, sorted(answer.headers)) for answer in answers],
                [{**orjson.loads(answer.body), "id": None} for answer in answers],
                sorted(system.codes()),
                sorted(system.scalars("SELECT text FROM log")),
            ]
        )
        await system.db.adispose()
    assert told[0] == told[1]


@pytest.mark.usefixtures("patient")
async def test_where_the_commit_is_refused_only_who_is_to_blame_is_told(system: System) -> None:
    async with system.turn():
        orphan = asyncio.create_task(system.post("orphan", parent_id=99))
        others = [asyncio.create_task(system.post(f"c{number}")) for number in range(5)]
        await settled()
    assert {(await other).status for other in others} == {201}
    assert (await orphan).status == 409
    assert sorted(system.codes()) == [f"c{number}" for number in range(5)]
    with listening(system.db.engine, "before_cursor_execute"):
        alone = await system.post("orphan", parent_id=99)
    assert (alone.status, alone.body) == ((await orphan).status, (await orphan).body)


async def test_a_commit_that_finds_the_file_in_use_is_nobodys_201(tmp_path: Path) -> None:
    system = System(tmp_path / "parts.db", sqlite={"journal_mode": "delete", "busy_timeout": 0.01})
    with locked(system.path, "BEGIN") as reader:
        reader.execute("SELECT * FROM part").fetchall()
        answers = await system.post_at_once(["a", "b", "c"])
    assert [answer.status for answer in answers] == [503] * 3
    assert system.codes() == []
    assert {answer.status for answer in await system.post_at_once(["a", "b", "c"])} == {201}
    assert system.idle()
    await system.db.adispose()


async def test_a_file_that_is_locked_is_answered_as_ever(tmp_path: Path) -> None:
    system = System(tmp_path / "parts.db", sqlite={"busy_timeout": 0.01})
    with locked(system.path):
        answers = await system.post_at_once(["a", "b", "c"])
        with listening(system.db.engine, "before_cursor_execute"):
            alone = await system.post("d")
    assert [(answer.status, answer.body) for answer in answers] == [(alone.status, alone.body)] * 3
    assert alone.status == 503
    assert system.codes() == []
    await system.db.adispose()


@pytest.mark.usefixtures("patient")
async def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(system: System) -> None:
    @event.listens_for(system.db.engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    system.db.dispose()
    codes = [f"{number}" * 30_000 for number in range(1, 9)]
    answers = await system.post_at_once(codes)
    created = [code for code, answer in zip(codes, answers, strict=True) if answer.status == 201]
    assert 0 < len(created) < len(codes)
    assert min(answer.status for answer in answers if answer.status != 201) >= 500
    assert sorted(system.codes()) == sorted(created)
    assert system.scalars("PRAGMA integrity_check") == ["ok"]


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.usefixtures("patient")
async def test_a_group_has_a_bound(system: System, monkeypatch: pytest.MonkeyPatch, members: int) -> None:
    monkeypatch.setattr(group_commit, "MEMBERS", members)
    system.asked.clear()
    answers = await system.post_at_once([f"c{number}" for number in range(16)])
    assert {answer.status for answer in answers} == {201}
    assert system.commits() == 16 // members


async def test_a_group_whose_time_is_over_is_committed_and_the_rest_follows(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "SECONDS", 0)
    system.asked.clear()
    answers = await system.post_at_once([f"c{number}" for number in range(8)])
    assert {answer.status for answer in answers} == {201}
    assert system.codes() == [f"c{number}" for number in range(8)]
    assert system.commits() == 8


@pytest.mark.usefixtures("patient")
async def test_a_statement_that_takes_long_keeps_nobody_waiting(tmp_path: Path) -> None:
    system = System(tmp_path / "parts.db")
    with system.db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER long AFTER INSERT ON part WHEN new.code LIKE 'long%' BEGIN "
            f"UPDATE part SET parent_id = NULL WHERE id = new.id AND {LONG.format(100_000)} > 0; END"
        )
    answers = await system.post_at_once(["a", "long", "b"])
    assert {answer.status for answer in answers} == {201}
    assert sorted(system.codes()) == ["a", "b", "long"]
    system.asked.clear()
    answers = await system.post_at_once(["c", "d", "e"])
    assert {answer.status for answer in answers} == {201}
    assert system.commits() == 3  # each alone, for a while
    await system.db.adispose()


@pytest.mark.usefixtures("patient")
async def test_the_deadline_of_a_statement_is_its_own(tmp_path: Path) -> None:
    system = System(tmp_path / "parts.db", statement_timeout=0.1)
    with system.db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER endless AFTER INSERT ON part WHEN new.code = 'endless' BEGIN "
            f"UPDATE part SET parent_id = NULL WHERE id = new.id AND {LONG.format(10**12)} > 0; END"
        )
    with listening(system.db.engine, "before_cursor_execute"):
        alone = await system.post("endless")
    answers = await system.post_at_once(["a", "endless", "b"])
    assert [answer.status for answer in answers] == [201, alone.status, 201]
    assert (alone.status >= 500, answers[1].body) == (True, alone.body)
    assert sorted(system.codes()) == ["a", "b"]
    await system.db.adispose()


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_one_that_is_cancelled_while_it_waits_is_left_out(system: System, cancelled: int) -> None:
    async with system.turn():
        tasks = [asyncio.create_task(system.post(f"c{number}")) for number in range(3)]
        await settled()
        tasks[cancelled].cancel()
        await settled()
        assert tasks[cancelled].cancelled()
    for number, task in enumerate(tasks):
        if number != cancelled:
            assert (await task).status == 201
    assert system.codes() == [f"c{number}" for number in range(3) if number != cancelled]


async def test_when_all_are_cancelled_while_they_wait_nothing_is_written(system: System) -> None:
    system.asked.clear()
    async with system.turn():
        tasks = [asyncio.create_task(system.post(f"c{number}")) for number in range(3)]
        await settled()
        for task in tasks:
            task.cancel()
        await settled()
    assert all(task.cancelled() for task in tasks)
    assert (await system.post("after")).status == 201
    assert system.codes() == ["after"]
    assert system.commits() == 1


@pytest.mark.parametrize("by_scope", [False, True], ids=["task", "scope"])
async def test_one_that_is_cancelled_while_it_is_written_ends_with_the_others(system: System, by_scope: bool) -> None:
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def post(number: int) -> Answer | None:
        with scopes[number]:
            return await system.post(f"c{number}")
        return None

    with locked(system.path) as lock:
        async with system.turn():
            tasks = [asyncio.create_task(post(number)) for number in range(3)]
            await settled()
        while system.idle():  # until a thread is about to write them, and waits for the lock
            await asyncio.sleep(0)
        if by_scope:
            scopes[1].cancel()
        else:
            tasks[1].cancel()
        await settled()
        assert not any(task.done() for task in tasks)
        lock.execute("ROLLBACK")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(answers[number], "status", None) for number in (0, 2)] == [201, 201]
    assert answers[1] is None if by_scope else isinstance(answers[1], asyncio.CancelledError)
    assert system.codes() == ["c0", "c1", "c2"]
    assert system.idle()


@pytest.mark.usefixtures("patient")
async def test_sessions_that_write_stand_in_the_same_line(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MEMBERS", 2)

    def store(session: Session) -> None:
        session.add(system.Part(code="session"))

    async with system.turn():
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(system.post("c1"))]
        await settled()
        tasks.append(asyncio.create_task(system.db.run(store, use_async=False)))
        await settled()
        tasks += [asyncio.create_task(system.post(f"c{number}")) for number in (2, 3, 4)]
        await settled()
    await asyncio.gather(*tasks)
    assert system.codes() == ["c1", "c2", "session", "c3", "c4"]


async def test_another_event_loop_is_not_waited_for(system: System) -> None:
    async with system.turn():
        waiting = asyncio.create_task(system.post("here"))
        await settled()
        statuses = await asyncio.to_thread(lambda: asyncio.run(elsewhere(system)))
        assert statuses == [201] * 4
        assert not waiting.done()
    assert (await waiting).status == 201
    assert len(system.codes()) == 5


async def elsewhere(system: System) -> list[int]:
    answers = await asyncio.gather(*(system.post(f"there {number}") for number in range(4)))
    return [answer.status for answer in answers]


async def test_the_end_of_the_event_loop_ends_the_wait(system: System) -> None:
    def serve() -> asyncio.Task[Answer]:
        async def serving() -> asyncio.Task[Answer]:
            turn = system.turn()
            await turn.__aenter__()
            task = asyncio.create_task(system.post("never"))
            await settled()
            return task

        return asyncio.run(serving())

    task = await asyncio.to_thread(serve)
    assert task.cancelled()
    assert system.codes() == []
    assert (await system.post("after")).status == 201


@pytest.mark.parametrize("end", [RuntimeError, asyncio.CancelledError])
async def test_nobody_waits_for_a_group_whose_work_has_ended_otherwise(
    system: System, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    def fail(_self: Any, _members: Any) -> Any:
        raise end

    monkeypatch.setattr(group_commit.GroupCommit, "_write_together", fail)
    async with system.turn():
        tasks = [asyncio.create_task(system.post(f"c{number}")) for number in range(3)]
        await settled()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found] == [end] * 3
    monkeypatch.undo()
    assert (await system.post("after")).status == 201
    assert system.codes() == ["after"]
