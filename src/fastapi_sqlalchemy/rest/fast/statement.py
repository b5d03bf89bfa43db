"""A statement in the terms of its driver: the text, its parameters in place, the processors of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from ..operations.rows import Row

__all__ = ["DriverStatement", "Found", "Process", "UnsuitableStatementError"]

Process = Callable[[Any], Any]


class UnsuitableStatementError(Exception):
    """A statement whose text depends on its values, such as the length of a list: SQLAlchemy has to run it."""


class Found:
    """Rows as the driver gave them, ``width`` values each, and the processors of those columns that have one.

    ``codes`` are what the driver calls the types of the columns, None each where it does not tell.
    """

    __slots__ = ("codes", "processors", "raw", "width")

    def __init__(self, raw: Sequence[Row], processors: Sequence[tuple[int, Process]], codes: Sequence[Any]) -> None:
        self.raw = raw
        self.processors = processors
        self.codes = codes
        self.width = len(codes)

    def processed(self) -> list[Row]:
        """Return the rows as SQLAlchemy would give them; raises what a processor raises for a value not of its type."""
        if not self.processors or not self.raw:
            return list(self.raw)
        columns: list[Any] = list(zip(*self.raw, strict=True))
        for place, process in self.processors:
            columns[place] = map(process, columns[place])
        return list(zip(*columns, strict=True))


class DriverStatement:
    """One statement, compiled once for one dialect.

    ``types`` are those of the columns that it returns; ``constants`` are values of parameters that stand in no
    request. Raises :class:`UnsuitableStatementError` where the text is not the same for all values.
    """

    def __init__(
        self,
        compiled: SQLCompiler,
        dialect: sa.Dialect,
        types: Iterable[sa.types.TypeEngine[Any]],
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        if compiled.post_compile_params or compiled.literal_execute_params or compiled.escaped_bind_names:
            raise UnsuitableStatementError
        self.text = compiled.string
        self.positional = compiled.positional
        self._dialect = dialect
        self._types = list(types)
        self._constants = constants or {}
        self._codes: list[Any] = []
        self._processors: list[tuple[int, Process]] | None = None
        names = compiled.positiontup if compiled.positional else list(compiled.bind_names.values())
        # name, processor and default of each parameter, in the order of the text
        self._binds = [self._bind(name, compiled.binds[name]) for name in names or ()]
        self.rest = 0

    @classmethod
    def of(cls, statement: sa.Select[Any], dialect: sa.Dialect) -> DriverStatement:
        """Return a SELECT in the terms of its driver."""
        return cls(statement.compile(dialect=dialect), dialect, [column.type for column in statement.selected_columns])

    def _bind(self, name: str, bind: sa.BindParameter[Any]) -> tuple[str, Process | None, Any]:
        if bind.callable is not None:
            raise UnsuitableStatementError
        process = bind.type.dialect_impl(self._dialect).bind_processor(self._dialect)
        return name, process, self._constants.get(name, bind.value)

    @property
    def is_described(self) -> bool:
        """Whether the processors of the columns are known, so that ``rows`` needs no description."""
        return self._processors is not None

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """Return what the driver is given for ``values``: a tuple in the order of the text, or a mapping by name."""
        if self.positional:
            return tuple(
                [
                    values.get(name, default) if process is None else process(values.get(name, default))
                    for name, process, default in self._binds
                ]
            )
        return {
            name: values.get(name, default) if process is None else process(values.get(name, default))
            for name, process, default in self._binds
        }

    def rows(self, found: Sequence[Row], description: Sequence[Sequence[Any]] | None) -> Found:
        """Return rows of the driver; ``description`` is asked for the first time only."""
        if self._processors is None:
            self._processors = self._prepare(description)
        return Found(found, self._processors, self._codes)

    def _prepare(self, description: Sequence[Sequence[Any]] | None) -> list[tuple[int, Process]]:
        self._codes = [None] * len(self._types) if description is None else [column[1] for column in description]
        processors = [
            sql_type.dialect_impl(self._dialect).result_processor(self._dialect, code)
            for sql_type, code in zip(self._types, self._codes, strict=True)
        ]
        return [(place, process) for place, process in enumerate(processors) if process is not None]
