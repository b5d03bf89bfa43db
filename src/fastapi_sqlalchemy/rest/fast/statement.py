"""A SELECT in the terms of its driver: the text, its parameters in their places, and the processors of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from ..operations.rows import Row

__all__ = ["DriverStatement", "UnsuitableStatementError"]

Process = Callable[[Any], Any]


class UnsuitableStatementError(Exception):
    """A statement whose text depends on its values, such as the length of a list: SQLAlchemy has to run it."""


class DriverStatement:
    """One statement, compiled once for one dialect.

    ``binds`` are name, processor and default of each parameter, in the order of the text. Raises
    :class:`UnsuitableStatementError` where the text is not the same for all values.
    """

    def __init__(self, statement: sa.Select[Any], dialect: sa.Dialect) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect)
        if compiled.post_compile_params or compiled.literal_execute_params or compiled.escaped_bind_names:
            raise UnsuitableStatementError
        self.text = compiled.string
        self.positional = compiled.positional
        self._dialect = dialect
        self._types = [column.type for column in statement.selected_columns]
        self._processors: list[tuple[int, Process]] | None = None
        names = compiled.positiontup if compiled.positional else list(compiled.bind_names.values())
        self._binds = [self._bind(name, compiled.binds[name]) for name in names or ()]
        self.rest = 0

    def _bind(self, name: str, bind: sa.BindParameter[Any]) -> tuple[str, Process | None, Any]:
        if bind.callable is not None:
            raise UnsuitableStatementError
        process = bind.type.dialect_impl(self._dialect).bind_processor(self._dialect)
        return name, process, bind.value

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

    def rows(self, found: Sequence[Row], description: Sequence[Sequence[Any]] | None) -> list[Row]:
        """Return rows of the driver as SQLAlchemy would give them. ``description`` is asked for the first time only.

        Raises what a processor raises for a stored value that is none of its type.
        """
        processors = self._processors
        if processors is None:
            processors = self._processors = self._prepare(description)
        if not processors or not found:
            return list(found)
        columns: list[Any] = list(zip(*found, strict=True))
        for place, process in processors:
            columns[place] = map(process, columns[place])
        return list(zip(*columns, strict=True))

    def _prepare(self, description: Sequence[Sequence[Any]] | None) -> list[tuple[int, Process]]:
        codes = [None] * len(self._types) if description is None else [column[1] for column in description]
        processors = [
            sql_type.dialect_impl(self._dialect).result_processor(self._dialect, code)
            for sql_type, code in zip(self._types, codes, strict=True)
        ]
        return [(place, process) for place, process in enumerate(processors) if process is not None]
