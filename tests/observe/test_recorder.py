"""The recorder tells what ran and from which line; the N+1 detector names attribute, line and cure."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.engines.listeners import is_observed
from fastapi_sqlalchemy.observe.nplusone import NPlusOneWarning, detect_nplusone
from fastapi_sqlalchemy.observe.recorder import Recorder

pytestmark = pytest.mark.anyio


@pytest.fixture
def library(database_url: str) -> Iterator[tuple[SQLAlchemy, Any]]:
    db = SQLAlchemy(database_url)

    class Author(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        books: Mapped[list[Book]] = relationship()

    class Book(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))

    globals()["Book"] = Book
    db.create_all()
    with db(commit_on_exit=True):
        db.session.add_all([Author(books=[Book(), Book()]) for _ in range(3)])
    yield db, Author
    db.dispose()


def test_a_statement_is_recorded_with_its_time_rows_and_line(library: tuple[SQLAlchemy, Any]) -> None:
    db, author = library
    with Recorder() as recorder, db():
        db.session.scalars(sa.select(author)).all()
    (statement,) = recorder.statements
    assert statement.operation == "SELECT"
    assert statement.rows == 3
    assert statement.seconds is not None
    assert statement.line is not None
    assert statement.line.path == __file__
    assert statement.line.function == "test_a_statement_is_recorded_with_its_time_rows_and_line"
    with db():
        db.session.scalars(sa.select(author)).all()
    assert recorder.count == 1


async def test_an_async_statement_is_recorded_with_its_line(library: tuple[SQLAlchemy, Any]) -> None:
    db, author = library
    async with Recorder() as recorder, db():
        await db.async_session.execute(sa.select(author))
    assert [(one.operation, one.line and one.line.path) for one in recorder.statements] == [("SELECT", __file__)]
    await db.adispose()


def test_a_failed_statement_is_recorded_with_its_error(library: tuple[SQLAlchemy, Any]) -> None:
    db, _ = library
    with Recorder() as recorder, db(), pytest.raises(sa.exc.DBAPIError):
        db.session.execute(sa.text("SELECT * FROM no_such_table"))
    assert recorder.statements[0].error is not None


def test_a_load_for_each_object_is_warned_of_with_its_line_and_cure(library: tuple[SQLAlchemy, Any]) -> None:
    db, author = library
    with pytest.warns(NPlusOneWarning) as caught, db(), detect_nplusone() as detector:
        for one in db.session.scalars(sa.select(author)).all():
            assert len(one.books) == 2
    (finding,) = detector.found
    assert (finding.model, finding.attribute, finding.count) == ("Author", "books", 3)
    assert "select(Author).options(selectinload(Author.books))" in finding.cure
    assert finding.line is not None
    assert (caught[0].filename, caught[0].lineno) == (__file__, finding.line.number)


def test_objects_loaded_with_the_first_statement_are_not_warned_of(library: tuple[SQLAlchemy, Any]) -> None:
    db, author = library
    with warnings.catch_warnings(), db(), detect_nplusone() as detector:
        warnings.simplefilter("error")
        for one in db.session.scalars(sa.select(author).options(selectinload(author.books))).all():
            assert len(one.books) == 2
    assert detector.found == []


def test_reads_go_the_short_way_again_once_nobody_records(database_url: str) -> None:
    early = SQLAlchemy(database_url)
    assert not is_observed(early.engine)
    with Recorder():
        assert is_observed(early.engine)
        during = SQLAlchemy(database_url)
        assert is_observed(during.engine)
    late = SQLAlchemy(database_url)
    assert [is_observed(db.engine) for db in (early, during, late)] == [False, False, False]
    with Recorder(everywhere=True):
        assert [is_observed(db.engine) for db in (early, during, late)] == [True, True, True]
    for db in (early, during, late):
        db.dispose()
