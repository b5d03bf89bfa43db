"""Creates one row by one statement: INSERT ... RETURNING on the driver's cursor, which commits by itself.

Nothing is read again and nothing is left open. A statement that the database refuses has changed nothing: the ordinary
path then does it anew, and finds the error that the client is told.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from ..narrowing import is_table
from ..operations.rows import Row, Shape, Target
from ..operations.write import columns_of, exact, needs_unit_of_work
from .reads import ShortWay
from .statement import DriverStatement, UnsuitableStatementError
from .work import GiveWay

__all__ = ["Creates"]


class Creates:
    """The short way of one router's creates."""

    def __init__(self, shape: Shape, short_way: ShortWay) -> None:
        self._shape = shape
        self._short_way = short_way
        self._known: dict[tuple[str, str, tuple[str, ...]], DriverStatement | None] = {}

    async def create(self, target: Target, values: dict[str, Any]) -> Row | None:
        """Insert a row, commit it and return it whole; None where the ordinary path has to, and nothing was done.

        An error of unknown outcome, such as a lost connection, is raised as the ordinary path would.
        """
        resource = target.resource
        if not target.ownership.is_open or target.references or target.hooks.around("create"):
            return None
        writes = self._short_way.open(alone=True)
        if writes is None or not is_table(resource.table) or not writes.dialect.insert_returning:
            return None
        if needs_unit_of_work(None, target, "create", [values]):
            return None
        columns = columns_of(resource, values)
        if any(isinstance(value, sa.ClauseElement) for value in columns.values()):
            return None
        statement = self._statement(resource.table, tuple(columns), writes.dialect)
        if statement is None:
            return None
        try:
            rows = await writes.write(statement, columns)
        except GiveWay:
            return None
        return exact(self._shape, rows[0]) if rows else None

    def _statement(self, table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> DriverStatement | None:
        place = (dialect.name, dialect.driver, names)
        if place not in self._known:
            if len(self._known) >= 64:
                self._known.clear()
            self._known[place] = self._compiled(table, names, dialect)
        return self._known[place]

    def _compiled(self, table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> DriverStatement | None:
        """The statement for bodies that set these columns; None where a default has to be asked for each row."""
        binds = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
        columns = self._shape.columns
        statement = sa.insert(table).values(binds).returning(*columns)
        compiled: SQLCompiler = statement.compile(dialect=dialect)
        constants: dict[str, Any] = {}
        for column in compiled.insert_prefetch or ():
            default: Any = column.default
            if default is None or not default.is_scalar:
                return None
            constants[column.key] = default.arg
        try:
            return DriverStatement(compiled, dialect, [column.type for column in columns], constants)
        except UnsuitableStatementError:
            return None
