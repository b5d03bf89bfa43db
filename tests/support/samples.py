"""The sample databases of the shared data folder, loaded into databases of our own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from pymysql.constants import CLIENT

__all__ = ["load_mariadb", "load_postgresql", "sample", "sqlite_copy"]

FOLDER = Path(__file__).parents[3] / "shared" / "data"
_DATABASE = re.compile(r"^[ \t]*(?:DROP DATABASE|CREATE DATABASE|USE|\\\w+)\b[^\n]*$", re.MULTILINE)
_COPY = re.compile(r"^COPY [^\n]* FROM stdin;\n(.*?)^\\\.\n", re.MULTILINE | re.DOTALL)


def sample(name: str) -> Path:
    """A file of the folder; skips the test, and says so, where the folder is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"NO SAMPLE DATABASES: {name} is not in ../shared/data beside the repository")
    return path


def sqlite_copy(name: str, folder: Path) -> Path:
    """A copy of a SQLite file that may be written to."""
    copy = folder / Path(name).name
    shutil.copyfile(sample(name), copy)
    return copy


def load_postgresql(name: str, url: str) -> None:
    """Run a script of psql, COPY included, in the database of the URL."""
    script = _text(name)
    with psycopg.connect(sa.make_url(url).set(drivername="postgresql").render_as_string(False)) as connection:
        position = 0
        for found in _COPY.finditer(script):
            _run(connection, script[position : found.start()])
            statement, _, _ = found.group().partition("\n")
            with connection.cursor().copy(statement.encode()) as copy:
                copy.write(found.group(1).encode())
            position = found.end()
        _run(connection, script[position:])
        connection.execute("ANALYZE")


def _text(name: str) -> str:
    content = sample(name).read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _run(connection: psycopg.Connection, script: str) -> None:
    text = _DATABASE.sub("", script)
    if text.strip():
        connection.execute(text.encode())


def load_mariadb(name: str, url: str) -> None:
    """Run a script of the mariadb client in the database of the URL."""
    parsed = sa.make_url(url)
    connection = pymysql.connect(
        host=parsed.host or "127.0.0.1",
        port=parsed.port or 3306,
        user=parsed.username,
        password=parsed.password or "",
        database=parsed.database,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(_DATABASE.sub("", _text(name)))
        while cursor.nextset():
            pass
        connection.commit()
