"""EXPLAIN of recorded statements: full scans by name, nothing changed, and refusals that say why."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import ExplainError, SQLAlchemy
from fastapi_sqlalchemy.observe.explain import Plan, aexplain, explain
from fastapi_sqlalchemy.observe.recorder import Recorder
from fastapi_sqlalchemy.observe.statement import Statement

pytestmark = pytest.mark.anyio


def library(url: str, rows: int = 2000) -> tuple[SQLAlchemy, Any]:
    db = SQLAlchemy(url)

    class Book(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(80))
        shelf: Mapped[str] = mapped_column(sa.String(20), index=True)

    db.create_all()
    with db(commit_on_exit=True):
        db.session.execute(sa.insert(Book), [{"title": f"t{n}", "shelf": f"s{n % 1000}"} for n in range(rows)])
    with db.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE TABLE book" if "mysql" in url else "ANALYZE")
        connection.commit()
    return db, Book


def recorded(db: SQLAlchemy, statement: Any, parameters: Any = None) -> Statement:
    with Recorder() as recorder, db():
        db.session.execute(statement, parameters)
    return recorder.statements[-1]


def test_a_full_scan_is_named_and_a_lookup_by_an_index_is_none(database_url: str) -> None:
    db, book = library(database_url)
    scan = explain(recorded(db, sa.select(book).where(book.title == "t7")))
    assert scan.full_scans == ("book",)
    assert str(scan).endswith("Full scans: book")
    lookup = explain(recorded(db, sa.select(book.id).where(book.shelf == "s7")))
    assert lookup.full_scans == ()
    assert "ix_book_shelf" in str(lookup)
    db.dispose()


async def test_a_statement_of_an_async_engine_is_explained_where_it_ran(database_url: str) -> None:
    db, book = library(database_url)
    async with Recorder() as recorder, db():
        await db.async_session.execute(sa.select(book).where(book.title == "t7", book.id > 3))
    (statement,) = recorder.statements
    assert (await aexplain(statement)).full_scans in (("book",), ())  # by the key where that is cheaper
    with pytest.raises(ExplainError, match="await aexplain"):
        explain(statement)
    assert (await aexplain(recorded(db, sa.select(book).where(book.title == "t7")))).full_scans == ("book",)
    await db.adispose()
    db.dispose()


def test_a_change_is_explained_and_not_made(database_url: str) -> None:
    db, book = library(database_url, rows=20)
    with Recorder() as recorder, db():  # rolled back at the end
        db.session.execute(sa.delete(book).where(book.title == "t3"))
    assert explain(recorder.statements[-1]).lines
    with db():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(book)) == 20
    db.dispose()


def test_postgresql_measures_reads_and_nothing_that_writes(postgres_url: str) -> None:
    db, book = library(postgres_url, rows=20)
    plan = explain(recorded(db, sa.select(book).where(book.title == "t7")), analyze=True)
    assert "took" in plan.lines[0]
    with Recorder() as recorder, db():
        db.session.execute(sa.text("DELETE FROM book WHERE id = 1"))
        db.session.execute(sa.text("WITH gone AS (DELETE FROM book RETURNING id) SELECT count(*) FROM gone"))
    plain, hidden = recorder.statements[-2:]
    with pytest.raises(ExplainError, match="for reads"):
        explain(plain, analyze=True)
    with pytest.raises(ExplainError, match="ReadOnlySqlTransaction"):
        explain(hidden, analyze=True)
    with db():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(book)) == 20
    db.dispose()


@pytest.mark.backends("sqlite", "mariadb")
def test_other_databases_refuse_to_measure(database_url: str) -> None:
    db, book = library(database_url, rows=1)
    with pytest.raises(ExplainError, match="Only PostgreSQL"):
        explain(recorded(db, sa.select(book)), analyze=True)
    db.dispose()


def test_what_has_no_plan_is_refused_with_the_reason(postgres_url: str) -> None:
    db, _ = library(postgres_url, rows=1)
    with pytest.raises(ExplainError, match="CREATE has no plan"):
        explain(recorded(db, sa.text("CREATE TABLE other (id integer)")))
    with pytest.raises(ExplainError, match="more than one"):
        explain(recorded(db, sa.text("SELECT 1; SELECT 2")))
    db.dispose()


def test_a_plan_with_a_join_is_indented_by_its_levels(postgres_url: str) -> None:
    db, book = library(postgres_url, rows=20)
    other = sa.orm.aliased(book)
    plan: Plan = explain(recorded(db, sa.select(book, other).join(other, book.title == other.shelf)))
    assert any(line.startswith("  ") for line in plan.lines)
    assert set(plan.full_scans) == {"book"}
    db.dispose()
