"""Column types: a moment comes back as the same moment in UTC, a 64-bit key numbers itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from fastapi_sqlalchemy.models.types import BigIntegerKey, UTCDateTime, utc_now, utc_timestamp

metadata = sa.MetaData()
moment = sa.Table(
    "moment",
    metadata,
    sa.Column("id", BigIntegerKey, primary_key=True),
    sa.Column("at", UTCDateTime),
    sa.Column("made", UTCDateTime, server_default=utc_timestamp(), nullable=False),
)
EARLIEST, LATEST = dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)  # noqa: DTZ001  # naive on purpose
MOSCOW = dt.timezone(dt.timedelta(hours=3))


@pytest.fixture
def connection(database_url: str) -> Iterator[sa.Connection]:
    """A connection whose session is in a time zone other than UTC."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({"options": "-c timezone=Asia/Tokyo"})
    elif url.get_backend_name() == "mysql":
        url = url.set(drivername="mysql+pymysql").update_query_dict({"init_command": "SET time_zone = '+09:00'"})
    engine = sa.create_engine(url, poolclass=NullPool)
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def store(connection: sa.Connection, value: Any) -> dt.datetime | None:
    connection.execute(moment.delete())
    connection.execute(moment.insert().values(at=value))
    return connection.execute(sa.select(moment.c.at)).scalar_one()


MOMENTS = [
    dt.datetime(2026, 3, 29, 1, 30, 15, 123456, tzinfo=dt.UTC),
    dt.datetime(2026, 3, 29, 1, 30, tzinfo=MOSCOW),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Rome")),
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1001, 1, 2, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=dt.UTC),
    None,
]


def test_a_moment_comes_back_in_utc(connection: sa.Connection) -> None:
    for value in MOMENTS:
        stored = store(connection, value)
        assert stored == (value and value.astimezone(dt.UTC))
        assert stored is None or stored.tzinfo is dt.UTC


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.datetimes(EARLIEST, LATEST, timezones=st.timezones()))
def test_any_moment_of_any_zone_comes_back(connection: sa.Connection, value: dt.datetime) -> None:
    assert store(connection, value) == value.astimezone(dt.UTC)


def test_what_names_no_moment_is_refused(connection: sa.Connection) -> None:
    for value in (LATEST, dt.date(2026, 1, 1), "2026-01-01", 0):
        with pytest.raises(sa.exc.StatementError, match="time zone") as caught:
            store(connection, value)
        assert isinstance(caught.value.orig, (ValueError, TypeError))


def test_moments_compare_and_add_whatever_their_zone(connection: sa.Connection) -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    store(connection, noon)
    same = noon.astimezone(MOSCOW)
    assert connection.execute(sa.select(moment.c.at == same)).scalar_one()
    assert connection.execute(sa.select(moment.c.at < same + dt.timedelta(microseconds=1))).scalar_one()
    assert not connection.execute(sa.select(moment.c.at < same)).scalar_one()
    assert connection.execute(sa.select(moment.c.at.between(same, same))).scalar_one()
    if connection.dialect.name == "postgresql":
        tomorrow = connection.execute(sa.select(moment.c.at + dt.timedelta(days=1))).scalar_one()
        assert tomorrow == noon + dt.timedelta(days=1)


def test_the_clock_of_the_database_tells_utc(connection: sa.Connection) -> None:
    before = utc_now() - dt.timedelta(seconds=5)
    connection.execute(moment.insert().values(at=None))
    made = connection.execute(sa.select(moment.c.made)).scalar_one()
    now = connection.execute(sa.select(utc_timestamp())).scalar_one()
    for value in (made, now):
        assert before < value < utc_now() + dt.timedelta(seconds=5)
        assert value.tzinfo is dt.UTC


def test_a_time_of_the_database_sorts_among_those_of_the_application(connection: sa.Connection) -> None:
    connection.execute(moment.insert().values(at=utc_now() - dt.timedelta(seconds=10)))
    connection.execute(moment.insert().values(at=utc_timestamp()))
    connection.execute(moment.insert().values(at=utc_now() + dt.timedelta(seconds=10)))
    rows = connection.execute(sa.select(moment.c.id).order_by(moment.c.at)).scalars().all()
    assert rows == sorted(rows)


def test_a_key_numbers_itself_and_holds_64_bits(connection: sa.Connection) -> None:
    numbered = connection.execute(moment.insert()).inserted_primary_key
    assert numbered is not None
    assert numbered[0] >= 1
    connection.execute(moment.insert().values(id=2**62))
    assert connection.execute(sa.select(sa.func.max(moment.c.id))).scalar_one() == 2**62


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (postgresql.dialect(), ["BIGSERIAL", "TIMESTAMP WITH TIME ZONE", "DEFAULT CURRENT_TIMESTAMP"]),
        (mysql.dialect(), ["BIGINT", "AUTO_INCREMENT", "DATETIME(6)", "DEFAULT (UTC_TIMESTAMP(6))"]),
        (mssql.dialect(), ["BIGINT", "DATETIMEOFFSET(6)", "DEFAULT SYSDATETIMEOFFSET()"]),
        (oracle.dialect(), ["NUMBER(19)", "DEFAULT SYS_EXTRACT_UTC(SYSTIMESTAMP)"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_dialect_has_its_own_words(dialect: sa.Dialect, expected: list[str]) -> None:
    ddl = str(CreateTable(moment).compile(dialect=dialect))
    assert [words for words in expected if words not in ddl] == []
