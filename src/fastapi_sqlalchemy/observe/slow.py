"""Logs statements that take longer than a bound."""

from __future__ import annotations

import logging

from ..exceptions import ConfigurationError
from .listening import Observer
from .logging import request_id
from .statement import Statement, database_name, without_literals

__all__ = ["SlowQueries"]

_MAX_TEXT = 8192


class SlowQueries(Observer):
    """Logs every statement of this process that takes longer than ``seconds``, from now on and until ``close()``.

    One line each, a WARNING of the logger ``fastapi_sqlalchemy.slow`` unless another is given: the text without
    parameters, and with ``?`` where a text or a number stood in it, the seconds in the driver, the rows, the line of
    your own code, the database and the id of the request. The same stands in the record's extras, so that
    `observe.logging.log_as_json` writes it field by field. The time is that of the execution and of fetching the rows;
    the line is written when the rows are read or given up.
    Measured reads go SQLAlchemy's whole way, not the shorter one that generated routes take where nobody looks.
    Raises `ConfigurationError` for a bound below 0.
    """

    everywhere = True

    def __init__(self, seconds: float = 0.5, *, logger: logging.Logger | None = None) -> None:
        if seconds < 0:
            raise ConfigurationError(f"seconds is a time, 0 or more; not {seconds}.")
        self.seconds = seconds
        self.line_from = seconds
        self.logger = logger or logging.getLogger("fastapi_sqlalchemy.slow")
        self.start()

    def close(self) -> None:
        """Log no more."""
        self.stop()

    def finished(self, statement: Statement) -> None:
        """Log the statement where it was slow."""
        if statement.total < self.seconds:
            return
        text = " ".join(without_literals(statement.sql).split())[:_MAX_TEXT]
        engine = statement.engine()
        database = None if engine is None else database_name(engine.url.database)
        rows = "rows unknown" if statement.rows is None else f"{statement.rows} rows"
        place = "no line of your own" if statement.line is None else str(statement.line)
        outcome = "" if statement.error is None else f", ended with {statement.error}"
        message = "Slow query: %.3f s, %s, database %s, at %s%s: %s"
        extra = {
            "seconds": round(statement.total, 6),
            "rows": statement.rows,
            "database": database,
            "code_line": None if statement.line is None else str(statement.line),
            "statement": text,
            "error_class": statement.error,
            "request_id": request_id.get(),
        }
        self.logger.warning(message, statement.total, rows, database, place, outcome, text, extra=extra)
