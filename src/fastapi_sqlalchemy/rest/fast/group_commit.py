"""Group commit on SQLite: writers that wait for the file while another one writes share one transaction.

The first one writes at once. Those that come meanwhile are gathered, and one thread runs their statements, each in a
savepoint of its own, before one COMMIT; nobody is answered before that has returned. Where the transaction is lost as
a whole (a constraint that is checked at COMMIT, ``ON CONFLICT ROLLBACK``, ``RAISE(ROLLBACK)``, an interruption), each
of them is written alone, and fails or not as if it had been alone from the beginning.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import sqlite3
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
from sqlalchemy import Engine
from sqlalchemy import exc as sa_exc

from ...engines.sqlite import begin_immediate, start_statement
from ...engines.turns import is_turn_taken, writers_turn
from ...exceptions import DatabaseUnavailableError
from ..operations.rows import Row
from .statement import DriverStatement
from .work import UNREADABLE, GiveWay

__all__ = ["MEMBERS", "REST", "SECONDS", "TURNS", "GroupCommit"]

MEMBERS = 64
"""Statements of one transaction at most."""

SECONDS = 0.01
"""Time after which a transaction takes no further statement: what it has is committed, the others have the next."""

TURNS = 5
"""Looks of the progress handler (10,000 steps of SQLite's machine each) that a statement may take among others."""

REST = 100
"""Requests for which a statement, once too long to keep others waiting, is written alone before it is tried again."""

_FAILURES = (sqlite3.Error, sa_exc.SQLAlchemyError, *UNREADABLE)


class _Way(enum.Enum):
    """What remains to be done for a statement of which nothing is left in the database."""

    ALONE = enum.auto()
    """It was undone with those of others."""

    ORDINARY = enum.auto()
    """It has failed, and the ordinary path finds the error that the client is told."""


_Outcome: TypeAlias = list[Row] | _Way
"""The rows that were committed, or what remains to be done."""


class GroupCommit:
    """Runs the statements of one engine that change rows, and commits them."""

    def __init__(self, engine: Engine, statement_timeout: float | None) -> None:
        self._engine = engine
        self._statement_timeout = statement_timeout
        self._file = str(engine.url.database)
        self._patience: float | None = getattr(engine.pool, "timeout", lambda: None)()
        self._open: _Group | None = None

    async def write(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement, commit it and return its rows; raises `GiveWay` where nothing was changed."""
        if statement.rest:
            statement.rest -= 1
            return await self._write_alone(statement, values)
        group = self._open
        if group is None or group.is_full or group.loop is not asyncio.get_running_loop():
            if not is_turn_taken(self._file):
                return await self._write_alone(statement, values)
            group = self._open = _Group()
            group.start(self._write_group(group))
        outcome = await group.join(statement, values)
        if outcome is _Way.ALONE:
            return await self._write_alone(statement, values)
        if outcome is _Way.ORDINARY:
            raise GiveWay
        return outcome

    async def _write_alone(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        async with writers_turn(self._file, self._patience):
            return await anyio.to_thread.run_sync(self._write, statement, values)

    async def _write_group(self, group: _Group) -> None:
        async with writers_turn(self._file, self._patience):
            if self._open is group:
                self._open = None
            group.is_under_way = True
            while members := group.waiting():
                try:
                    outcomes = await anyio.to_thread.run_sync(self._write_together, members)
                except GiveWay:
                    outcomes = [_Way.ORDINARY] * len(members)
                for member, outcome in zip(members, outcomes, strict=False):
                    if not member.told.done():
                        member.told.set_result(outcome)

    def _write(self, statement: DriverStatement, values: Mapping[str, Any]) -> list[Row]:
        connection = self._connect()
        try:
            driver: sqlite3.Connection = connection.driver_connection
            begin_immediate(connection.info, driver)
            rows = _run(driver, statement, statement.parameters(values))
            driver.execute("COMMIT")
            return rows
        except _FAILURES as error:
            raise GiveWay from error
        finally:
            connection.close()  # rolls back what was not committed

    def _write_together(self, members: Sequence[_Member]) -> list[_Outcome]:
        """Write as many as there is time for, at least one; returns what became of each of these, in order.

        Raises `GiveWay` where it is none of their statements that fails.
        """
        connection = self._connect()
        try:
            driver: sqlite3.Connection = connection.driver_connection
            begin_immediate(connection.info, driver)
            outcomes = self._write_in_turn(connection.info, driver, members)
            if not driver.in_transaction:
                return _undone(outcomes)
            start_statement(connection.info, self._statement_timeout)
            try:
                driver.execute("COMMIT")
            except sqlite3.IntegrityError:
                return _undone(outcomes)
            return outcomes
        except _FAILURES as error:
            raise GiveWay from error
        finally:
            start_statement(connection.info, None)
            connection.close()  # rolls back what was not committed

    def _write_in_turn(
        self, info: Mapping[str, Any], driver: sqlite3.Connection, members: Sequence[_Member]
    ) -> list[_Outcome]:
        """Write until the time is over or the transaction is lost."""
        until = time.monotonic() + SECONDS
        outcomes: list[_Outcome] = []
        for member in members:
            start_statement(info, self._statement_timeout, turns=TURNS)
            outcomes.append(_write_in_savepoint(driver, member))
            if not driver.in_transaction or time.monotonic() > until:
                break
        return outcomes

    def _connect(self) -> Any:
        """A pooled connection that was configured here, whose next statement has the usual deadline."""
        try:
            connection: Any = self._engine.pool.connect()
        except (sa_exc.SQLAlchemyError, DatabaseUnavailableError) as error:
            raise GiveWay from error
        if not start_statement(connection.info, self._statement_timeout):
            connection.close()
            raise GiveWay
        return connection


class _Member:
    """One that waits for its statement to be committed; ``told`` what became of it."""

    __slots__ = ("statement", "told", "values")

    def __init__(self, statement: DriverStatement, values: Mapping[str, Any], told: asyncio.Future[_Outcome]) -> None:
        self.statement = statement
        self.values = values
        self.told = told


class _Group:
    """Those who wait for the same turn, in the order of arrival."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_under_way = False
        self._members: list[_Member] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self._members) >= MEMBERS

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let ``work`` wait for the turn and write; it belongs to none of the requests."""
        self._task = self.loop.create_task(work, context=contextvars.Context())
        self._task.add_done_callback(self._end)

    async def join(self, statement: DriverStatement, values: Mapping[str, Any]) -> _Outcome:
        """Wait until the statement is written; one that is cancelled before the group's turn is left out."""
        member = _Member(statement, values, self.loop.create_future())
        self._members.append(member)
        try:
            return await member.told
        except asyncio.CancelledError:
            if self.is_under_way and self._task is not None:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([self._task])
            raise

    def waiting(self) -> list[_Member]:
        """Those who were neither told nor cancelled."""
        return [member for member in self._members if not member.told.done()]

    def _end(self, task: asyncio.Task[None]) -> None:
        """Tell those who wait still that the work was ended, or has failed."""
        for member in self.waiting():
            if task.cancelled():
                member.told.cancel()
            elif (error := task.exception()) is not None:
                member.told.set_exception(error)


def _write_in_savepoint(driver: sqlite3.Connection, member: _Member) -> _Outcome:
    """Run one statement; one that fails leaves nothing, not even by ``ON CONFLICT FAIL`` or ``RAISE(FAIL)``."""
    statement = member.statement
    try:
        parameters = statement.parameters(member.values)
    except _FAILURES:
        return _Way.ORDINARY
    driver.execute("SAVEPOINT member")
    try:
        rows = _run(driver, statement, parameters)
    except _FAILURES as error:
        if driver.in_transaction:
            driver.execute("ROLLBACK TO member")
            driver.execute("RELEASE member")
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            return _Way.ORDINARY
        statement.rest = REST
        return _Way.ALONE
    driver.execute("RELEASE member")
    return rows


def _run(driver: sqlite3.Connection, statement: DriverStatement, parameters: Any) -> list[Row]:
    cursor = driver.execute(statement.text, parameters)
    return statement.rows(cursor.fetchall(), cursor.description).processed()


def _undone(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
    """What remains to be done once the transaction of all of them is lost."""
    return [outcome if outcome is _Way.ORDINARY else _Way.ALONE for outcome in outcomes]
