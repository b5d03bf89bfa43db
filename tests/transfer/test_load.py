"""`load`: bad rows, batches, interruptions, speed and memory."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_sqlalchemy import BadRowError, ConfigurationError, SQLAlchemy
from fastapi_sqlalchemy.transfer import Options, dump, load
from tests.support.nursery import python

ROOT = Path(__file__).parents[2]


def item_table(db: SQLAlchemy) -> sa.Table:
    table = sa.Table(
        "item",
        db.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, unique=True),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("day", sa.Date),
        sa.CheckConstraint("price >= 0", name="not_negative"),
    )
    db.create_all()
    return table


def write_items(path: Path, count: int, change: dict[int, str] | None = None) -> str:
    """A CSV whose row with number n (line n + 1) may be changed."""
    with path.open("w", newline="") as file:
        file.write("id,name,price,day\n")
        for number in range(1, count + 1):
            file.write((change or {}).get(number, f'{number},"name, {number}",{number % 100}.50,2026-01-31') + "\n")
    return str(path)


def count_of(db: SQLAlchemy, table: sa.Table) -> int:
    with db.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("57,x,abc,2026-01-31", "price", "'abc' is no number"),
        ("57,x,1.5,2026-02-31", "day", "cannot be read as"),
        ("5_7,x,1.5,2026-01-31", "id", "is no whole number"),
        ("57,x,1.5", None, "the row has 3 cells and the header 4"),
        ('57,"name, 3",1.5,2026-01-31', None, ""),
        ("57,x,-1,2026-01-31", None, ""),
    ],
)
def test_a_bad_row_is_told_by_its_line_and_nothing_of_its_batch_is_kept(
    database_url: str, tmp_path: Path, row: str, column: str | None, reason: str
) -> None:
    db = SQLAlchemy(database_url)
    table = item_table(db)
    path = tmp_path / "items.csv"
    file = write_items(path, 100, {57: row})
    with pytest.raises(BadRowError) as caught:
        load(db.engine, table, file, batch=25)
    assert (caught.value.line, caught.value.column, caught.value.kept) == (58, column, 50)
    assert reason in str(caught.value)
    assert "INSERT" not in str(caught.value)
    assert count_of(db, table) == 50
    write_items(path, 100)
    assert load(db.engine, table, file, batch=25, resume=True).rows == 50
    assert count_of(db, table) == 100


def test_lines_are_counted_as_an_editor_does_where_cells_have_several(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    path = tmp_path / "items.csv"
    path.write_text('id,name\r\n1,"two\r\nlines"\r\n\r\nx,"bad"\r\n', newline="")
    with pytest.raises(BadRowError, match="line 5: column 'id'"):
        load(db.engine, table, str(path))
    (tmp_path / "items.json").write_text('[\n {"id": 1,\n  "name": "a"},\n\n {"id": 2, "name": 3}\n]')
    with pytest.raises(BadRowError, match="line 5: column 'name': 3 is no text"):
        load(db.engine, table, str(tmp_path / "items.json"))
    assert count_of(db, table) == 0


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", '[{"id": 1, "name": "x"}', "end of the file"),
        ("a.json", '[{"id": 1, "name": "x}', "Unterminated"),
        ("a.json", '{"id": 1}', r"it is no JSON array"),
        ("a.json", "[1]", "no JSON object"),
        ("a.json", '[{"id": 1, "name": "x"}] x', "follows the array"),
        ("a.json", '[{"id": 1, "nom": "x"}]', "no column 'nom'"),
        ("a.ndjson", '{"id": 1, "name": "x"}\n{"id": 2 "name": "y"}', "line 2: it is no JSON"),
        ("a.ndjson", "[" * 100_000, "it is no JSON"),
        ("a.csv", 'id,name\n1,"x', "line 2: it is no CSV"),
        ("a.csv", 'id,name\n1,"x"y', "line 2: it is no CSV"),
        ("a.csv", b"id,name\n1,\xff\n", "line 2: the text is not UTF-8"),
        ("a.ndjson", b'{"id": 1, "name": "\xff"}', "not UTF-8"),
        ("a.json", b'[{"id": 1, "name": "\xff"}]', "not UTF-8"),
    ],
)
def test_a_file_that_is_broken_is_told_and_leaves_nothing(
    sqlite_url: str, tmp_path: Path, name: str, text: str | bytes, reason: str
) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadRowError, match=reason):
        load(db.engine, table, str(tmp_path / name))
    assert count_of(db, table) == 0
    assert not sa.inspect(db.engine).has_table("fastapi_sqlalchemy_load")


def test_columns_that_are_not_there_are_refused_before_the_first_row(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    (tmp_path / "a.csv").write_text("id,nom\n1,x\n")
    with pytest.raises(ConfigurationError, match="no column 'nom'; it has id, name, price, day"):
        load(db.engine, table, str(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("id,id\n1,2\n")
    with pytest.raises(ConfigurationError, match="named twice"):
        load(db.engine, table, str(tmp_path / "a.csv"))


def test_objects_larger_than_a_chunk_are_read_as_a_stream(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = sa.Table("t", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Text))
    db.create_all()
    (tmp_path / "t.json").write_text(
        "[" + ",".join(f'{{"id": {n}, "n": "{"é" * 100_000}"}}' for n in range(1, 21)) + "]"
    )
    assert load(db.engine, table, str(tmp_path / "t.json")).rows == 20
    with db.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.min(sa.func.length(table.c.n)))) == 100_000


def test_another_delimiter_and_another_null_are_understood(sqlite_url: str) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    source = io.BytesIO(b"\xef\xbb\xbfid;name;price\n1;a;\\N\n2;b;2\n")
    load(db.engine, table, source, file_format="csv", options=Options(";", "\\N"))
    with db.engine.connect() as connection:
        assert [row[2] for row in connection.execute(sa.select(*table.c).order_by(table.c.id))] == [None, 2]


def test_a_second_load_is_told_of_the_first_and_another_file_is_not_gone_on_with(
    sqlite_url: str, tmp_path: Path
) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    file = write_items(tmp_path / "items.csv", 100, {80: "bad,bad,bad,bad"})
    with pytest.raises(BadRowError):
        load(db.engine, table, file, batch=10)
    with pytest.raises(ConfigurationError, match="was interrupted after 70 records"):
        load(db.engine, table, file)
    other = write_items(tmp_path / "other.csv", 100, {1: "1,other,1,2026-01-01"})
    with pytest.raises(ConfigurationError, match="read another file"):
        load(db.engine, table, other, resume=True)
    more = write_items(tmp_path / "more.csv", 2, {1: "1001,x,1,2026-01-01", 2: "1002,y,1,2026-01-01"})
    assert load(db.engine, table, more, restart=True).rows == 2
    assert count_of(db, table) == 72


KILLED = """
import sys
import sqlalchemy as sa
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.transfer import dump, load
db = SQLAlchemy(sys.argv[1])
table = sa.Table("item", sa.MetaData(), autoload_with=db.engine)
resume = sys.argv[4] == "resume"
def tell(rows, read=0):
    print(rows, flush=True)
if sys.argv[2] == "load":
    load(db.engine, table, sys.argv[3], batch=500, resume=resume, progress=tell)
else:
    dump(db.engine, table, sys.argv[3], batch=500, resume=resume, progress=tell)
"""


def kill_after(batches: int, *arguments: str) -> int | None:
    """Run until so many batches were told, then kill -9; the exit code where it ended before."""
    with subprocess.Popen(
        [python(), "-c", KILLED, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as process:
        assert process.stdout is not None
        for _ in range(batches):
            if not process.stdout.readline():
                return process.wait()
        process.send_signal(signal.SIGKILL)
        process.stdout.read()  # ends when the program does
    return None


def test_a_load_that_is_killed_goes_on_without_loss_or_duplicate(
    database_url: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    db = SQLAlchemy(database_url)
    # no key at all: a row that is loaded twice would stay
    table = sa.Table("item", db.metadata, sa.Column("n", sa.Integer), sa.Column("name", sa.String(40)))
    db.create_all()
    path = tmp_path / "items.csv"
    path.write_text("n,name\n" + "".join(f"{n},name {n}\n" for n in range(10_000)))
    seed = random.randrange(1000)
    batches = random.Random(seed).randint(3, 9)
    assert kill_after(batches, database_url, "load", str(path), "fresh") is None
    report = load(db.engine, table, str(path), batch=500, resume=True)
    assert report.resumed_at >= batches * 500
    with db.engine.connect() as connection:
        found = list(connection.scalars(sa.select(table.c.n).order_by(table.c.n)))
    lost, twice = len(set(range(10_000)) - set(found)), len(found) - len(set(found))
    figure(
        "T1 load killed",
        variant=db.engine.dialect.name,
        n=10_000,
        seed=seed,
        failures=lost + twice,
        resumed_at=report.resumed_at,
    )
    assert (lost, twice) == (0, 0)
    assert not sa.inspect(db.engine).has_table("fastapi_sqlalchemy_load")


def test_a_dump_that_is_killed_goes_on_without_loss_or_duplicate(sqlite_url: str, tmp_path: Path) -> None:
    db = SQLAlchemy(sqlite_url)
    table = item_table(db)
    load(db.engine, table, write_items(tmp_path / "items.csv", 10_000))
    target, whole = tmp_path / "out.json", tmp_path / "whole.json"
    assert kill_after(5, sqlite_url, "dump", str(target), "fresh") is None
    assert not target.exists()
    with (tmp_path / "out.json.part").open("ab") as part:
        part.write(b"half a row that was written when the power went")
    with pytest.raises(ConfigurationError, match="was interrupted"):
        dump(db.engine, table, str(target), batch=500)
    report = dump(db.engine, table, str(target), batch=500, resume=True)
    assert report.rows + report.resumed_at == 10_000
    assert report.resumed_at >= 2500
    dump(db.engine, table, str(whole))
    assert target.read_bytes() == whole.read_bytes()
    assert target.stat().st_mode & 0o077 == 0, "a dump is for its owner's eyes"
    assert not list(tmp_path.glob("*.part*"))


MEASURED = """
import sys
import sqlalchemy as sa
from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.transfer import dump, load
db = SQLAlchemy(sys.argv[1])
table = sa.Table("item", sa.MetaData(), autoload_with=db.engine)
def peak():  # in kB; that of getrusage is the parent's where it was larger
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
load(db.engine, table, sys.argv[2])
with db.engine.begin() as connection:
    connection.execute(sa.delete(table))
before = peak()
load(db.engine, table, sys.argv[3])
middle = peak()
dump(db.engine, table, sys.argv[4])
print(middle - before, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.backends("sqlite", "postgresql")
def test_memory_does_not_grow_with_the_file(database_url: str, tmp_path: Path, figure: Callable[..., None]) -> None:
    db = SQLAlchemy(database_url)
    item_table(db)
    few = write_items(tmp_path / "few.csv", 10)
    rows = 40_000
    many = write_items(tmp_path / "many.csv", rows)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, database_url, few, many, str(tmp_path / "out.csv")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    loaded, dumped = (int(number) / 1024 for number in done.stdout.split())
    figure("T2 memory", variant=db.engine.dialect.name, n=rows, seed=0, failures=0, load_mb=loaded, dump_mb=dumped)
    assert max(loaded, dumped) < 50


@pytest.mark.backends("sqlite", "postgresql")
def test_a_load_costs_a_third_of_what_add_all_does(
    database_url: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    """By CPU of this process, which other processes of the machine disturb least; the bound has slack."""
    db = SQLAlchemy(database_url)

    class Item(db.Base):
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String(80))
        price = sa.Column(sa.Float)
        number = sa.Column(sa.Integer)

    db.create_all()
    rows = 6_000
    path = tmp_path / "items.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "name", "price", "number"], *([n, f"name {n}", n / 2, n] for n in range(1, rows + 1))]
        )
    load_cost = min(_cost(db, lambda: load(db.engine, Item.__table__, str(path))) for _ in range(2))

    def add_all() -> None:
        with path.open(newline="") as file, db(commit_on_exit=True) as scope:
            items = [
                Item(id=int(r["id"]), name=r["name"], price=float(r["price"]), number=int(r["number"]))
                for r in csv.DictReader(file)
            ]
            scope.session.add_all(items)

    orm_cost = min(_cost(db, add_all) for _ in range(2))
    ratio = orm_cost / load_cost
    speed = round(rows / load_cost)
    variant = db.engine.dialect.name
    figure("T3 load, add_all", variant=variant, n=rows, seed=0, failures=0, rows_per_cpu_second=speed, ratio=ratio)
    assert ratio > 2


def _cost(db: SQLAlchemy, work: Callable[[], Any]) -> float:
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM item")
    started = time.process_time()
    work()
    return time.process_time() - started
