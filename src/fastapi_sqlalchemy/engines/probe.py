"""One question to a server on one connection, answered within a bound of its own or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["ask"]


def ask(dbapi_connection: Any, sql: str, seconds: float) -> Sequence[Any]:
    """The first row of the answer.

    Raises what the driver raises; a connection that did not answer within ``seconds`` is closed, and of no more use.
    """
    with _bounded(dbapi_connection, seconds):
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(sql)
            row: Sequence[Any] = cursor.fetchone()
        finally:
            cursor.close()
    return row


@contextmanager
def _bounded(dbapi_connection: Any, seconds: float) -> Generator[None]:
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    if hasattr(driver, "bound"):  # psycopg, see postgresql.py
        before, driver.bound = driver.bound, seconds
        try:
            yield
        finally:
            driver.bound = before
    elif hasattr(driver, "_sock"):  # PyMySQL
        before, driver._read_timeout = driver._read_timeout, seconds
        try:
            yield
        finally:
            driver._read_timeout = before
    elif (loop := asyncio._get_running_loop()) is not None:
        timer = loop.call_later(seconds, driver.terminate if hasattr(driver, "terminate") else driver.close)
        try:
            yield
        finally:
            timer.cancel()
    else:
        yield
