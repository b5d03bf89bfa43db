"""What `dump` writes, `load` reads back value by value, on every database and in every format."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.models.types import UTCDateTime
from fastapi_sqlalchemy.transfer import Options, dump, load

HOSTILE = [
    "",
    " ",
    "'",
    "=1+1",
    "'=1+1",
    "''=1+1",
    "-5",
    "+49",
    "@home",
    "\ttab",
    "\n",
    "a,b",
    'a "quoted" word',
    '""',
    '"',
    "line\r\nline",
    "\\N",
    "NULL",
    "żółw 🐢",
    "x" * 5000,
    "\uff1dsum",
    " leading and trailing ",
    "{}",
]


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


def everything(metadata: sa.MetaData, dialect: str, name: str = "thing") -> sa.Table:
    exact = sa.DateTime() if dialect != "mysql" else sa.DateTime().with_variant(_microseconds(), "mysql", "mariadb")
    columns: list[Any] = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text),
        sa.Column("required", sa.Text, nullable=False),
        sa.Column("price", sa.Numeric(12, 2)),
        sa.Column("ratio", sa.Float(53)),
        sa.Column("ok", sa.Boolean),
        sa.Column("day", sa.Date),
        sa.Column("at", exact),
        sa.Column("moment", UTCDateTime),
        sa.Column("took", sa.Interval),
        sa.Column("data", sa.LargeBinary),
        sa.Column("token", sa.Uuid),
        sa.Column("colour", sa.Enum(Colour)),
        sa.Column("extra", sa.JSON),
        sa.Column("size", sa.BigInteger),
    ]
    if dialect == "postgresql":
        columns += [
            sa.Column("tags", sa.ARRAY(sa.Text)),
            sa.Column("more", sa.dialects.postgresql.JSONB),
            sa.Column("address", sa.dialects.postgresql.INET),
            sa.Column("span", sa.dialects.postgresql.INT4RANGE),
        ]
    return sa.Table(name, metadata, *columns)


def _microseconds() -> Any:
    return sa.dialects.mysql.DATETIME(fsp=6)


def rows_for(dialect: str) -> list[dict[str, Any]]:
    full: dict[str, Any] = {
        "price": Decimal("12345.10"),
        "ratio": 0.1,
        "ok": True,
        "day": dt.date(2026, 2, 28),
        "at": dt.datetime.fromisoformat("2026-02-28T01:02:03.456789"),
        "moment": dt.datetime(2026, 2, 28, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "took": dt.timedelta(days=1, seconds=5),
        "data": bytes(range(256)),
        "token": uuid.UUID(int=5),
        "colour": Colour.BLUE,
        "extra": {"a": [1, 2.5, "=x", None], "b": {"c": "ü"}},
        "size": 2**62,
    }
    if dialect == "postgresql":
        full |= {
            "tags": ["a", "", None, "=b", 'q"'],
            "more": {"n": 1},
            "address": "10.0.0.1",
            "span": sa.dialects.postgresql.Range(1, 5),
        }
    empty: dict[str, Any] = dict.fromkeys(full)
    empty["extra"] = sa.null()
    if dialect == "postgresql":
        empty["more"] = sa.null()
    rows = [{"id": 1, "text": None, "required": "", **empty}]
    rows += [{"id": number + 2, "text": text, "required": text, **full} for number, text in enumerate(HOSTILE)]
    return rows


def contents(db: SQLAlchemy, table: sa.Table) -> list[Any]:
    extra = sa.cast(table.c.extra, sa.Text) == "null" if db.engine.dialect.name == "postgresql" else sa.literal(0)
    with db.engine.connect() as connection:
        rows = connection.execute(sa.select(table, table.c.extra.is_(None), extra).order_by(table.c.id))
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("file_format", ["csv", "ndjson", "json"])
@pytest.mark.filterwarnings("ignore:Dialect sqlite.*Decimal:sqlalchemy.exc.SAWarning")
def test_what_is_dumped_is_loaded_as_it_was(database_url: str, file_format: str, tmp_path: Path) -> None:
    db = SQLAlchemy(database_url)
    dialect = db.engine.dialect.name
    table = everything(db.metadata, dialect)
    twin = everything(sa.MetaData(), dialect, "twin")
    db.create_all()
    with db.engine.begin() as connection:
        twin.create(connection)
        for row in rows_for(dialect):
            connection.execute(sa.insert(table), row)
    file = str(tmp_path / f"things.{file_format}")
    assert dump(db.engine, table, file, batch=7).rows == len(HOSTILE) + 1
    report = load(db.engine, twin, file, batch=5)
    assert report.rows == len(HOSTILE) + 1
    assert contents(db, twin) == contents(db, table)
    again = tmp_path / f"again.{file_format}"
    dump(db.engine, twin, str(again), batch=100)
    assert again.read_bytes() == Path(file).read_bytes()
    assert not list(tmp_path.glob("*.part*"))
    assert not sa.inspect(db.engine).has_table("fastapi_sqlalchemy_load")


def test_a_spreadsheet_runs_nothing_of_a_csv_unless_it_is_raw(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = sa.Table("t", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("=n", sa.Text))
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": -1, "=n": '=HYPERLINK("x")'}])
    safe, raw = tmp_path / "safe.csv", tmp_path / "raw.csv"
    dump(db.engine, table, str(safe))
    dump(db.engine, table, str(raw), options=Options(escapes=False))
    assert safe.read_bytes() == b'id,\'=n\r\n-1,"\'=HYPERLINK(""x"")"\r\n'
    assert raw.read_bytes() == b'id,=n\r\n-1,"=HYPERLINK(""x"")"\r\n'


def test_a_csv_of_one_column_keeps_null_and_the_empty_text_apart(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = sa.Table("t", db.metadata, sa.Column("n", sa.Text))
    twin = sa.Table("twin", db.metadata, sa.Column("n", sa.Text))
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [{"n": None}, {"n": ""}, {"n": "x"}, {"n": None}])
    file = str(tmp_path / "n.csv")
    dump(db.engine, table, file)
    load(db.engine, twin, file)
    with db.engine.connect() as connection:
        assert connection.scalars(sa.select(twin.c.n)).all() == [None, "", "x", None]


def test_decimals_and_large_numbers_of_json_keep_their_digits(postgres_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(postgres_url)
    table = sa.Table(
        "t", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Numeric(40, 20))
    )
    db.create_all()
    (tmp_path / "n.ndjson").write_text('{"id": 1, "n": 12345678901234567890.12345678901234567890}\n')
    load(db.engine, table, str(tmp_path / "n.ndjson"))
    with db.engine.connect() as connection:
        assert connection.scalar(sa.select(table.c.n)) == Decimal("12345678901234567890.12345678901234567890")


def test_a_column_that_the_file_lacks_gets_its_default(database_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(database_url)

    class Item(db.Base):
        id = sa.Column(sa.Integer, primary_key=True)
        state = sa.Column(sa.String(10), default="new")
        token = sa.Column(sa.Uuid, default=uuid.uuid4)
        number = sa.Column(sa.Integer, server_default="7")
        length = sa.Column(sa.Integer, default=sa.func.length("abc"))

    db.create_all()
    (tmp_path / "item.ndjson").write_text('{"id": 1}\n{"id": 2, "state": "old"}\n{"id": 3, "length": 1, "number": 2}\n')
    assert load(db.engine, Item.__table__, str(tmp_path / "item.ndjson")).rows == 3
    with db() as scope:
        found = [(i.id, i.state, i.number, i.length) for i in scope.session.scalars(sa.select(Item).order_by(Item.id))]
        tokens = set(scope.session.scalars(sa.select(Item.token)))
        following = Item.new().id
    assert found == [(1, "new", 7, 3), (2, "old", 7, 3), (3, "new", 2, 1)]
    assert len(tokens) == 3
    assert following == 4, "the numbers go on behind those of the file"


def test_a_table_without_a_key_and_a_key_with_nulls_are_dumped_whole(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    bare = sa.Table("bare", db.metadata, sa.Column("n", sa.Integer))
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE loose (k TEXT PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO loose VALUES ('a'), (NULL), (NULL), ('b')")
        bare.create(connection)
        connection.execute(sa.insert(bare), [{"n": n} for n in range(25)])
    loose = sa.Table("loose", sa.MetaData(), autoload_with=db.engine)
    assert dump(db.engine, bare, str(tmp_path / "bare.csv"), batch=10).rows == 25
    assert dump(db.engine, loose, str(tmp_path / "loose.csv"), batch=1).rows == 4


def test_composite_keys_are_walked_in_order_without_loss(database_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(database_url)
    table = sa.Table(
        "t",
        db.metadata,
        sa.Column("a", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("b", sa.String(20), primary_key=True),
        sa.Column("c", sa.Date, primary_key=True),
    )
    db.create_all()
    keys = [(a, f"b{b}", dt.date(2026, 1, c)) for a in range(5) for b in range(5) for c in range(1, 5)]
    with db.engine.begin() as connection:
        connection.execute(sa.insert(table), [dict(zip("abc", key, strict=True)) for key in keys])
    file = tmp_path / "t.csv"
    assert dump(db.engine, table, str(file), batch=3).rows == 100
    assert file.read_text().splitlines()[1:] == [f"{a},{b},{c}" for a, b, c in keys]
