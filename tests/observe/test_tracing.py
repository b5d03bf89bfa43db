"""Tracing: a span for every statement, below the current one, with what the conventions ask for and no values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fastapi_sqlalchemy import Session, SQLAlchemy
from fastapi_sqlalchemy.observe.statement import without_literals
from fastapi_sqlalchemy.observe.tracing import Tracing
from tests.support.client import TestClient

SECRET = "correct horse battery staple"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(made)
    yield made
    tracing.close()
    made.shutdown()


def of_database(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]


def test_a_span_has_the_attributes_of_the_conventions_and_no_value(
    database_url: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    db = SQLAlchemy(database_url)

    class Person(db.Base):
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String(80), unique=True)

    db.create_all()
    exporter.clear()
    with db(commit_on_exit=True):
        Person.new(name=SECRET)
    with db():
        db.session.execute(sa.text(f"SELECT id FROM person WHERE name = '{SECRET}' AND id < 12345")).all()
    insert, select = of_database(exporter)
    assert (insert.name, select.name) == ("INSERT person", "SELECT person")
    system = {"sqlite": "sqlite", "postgresql": "postgresql"}.get(db.engine.dialect.name, db.engine.dialect.name)
    for span in (insert, select):
        found = dict(span.attributes or {})
        assert found["db.system.name"] == system
        assert found["db.collection.name"] == "person"
        assert found["db.namespace"] == db.url.database
        if system != "sqlite":
            assert found["server.address"] == "127.0.0.1"
        assert SECRET not in str(span.to_json())
        assert "12345" not in str(found["db.query.text"])
    exporter.clear()
    with pytest.raises(sa.exc.IntegrityError), db(commit_on_exit=True):
        db.session.add(Person(name=SECRET))
        db.session.flush()
    (failed,) = of_database(exporter)
    assert failed.status.status_code is StatusCode.ERROR
    assert "IntegrityError" in str((failed.attributes or {})["error.type"]) or "Unique" in str(failed.attributes)
    assert SECRET not in failed.to_json()


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_spans_stand_below_that_of_the_endpoint(
    sqlite_url: str, provider: TracerProvider, exporter: InMemorySpanExporter, use_async: bool
) -> None:
    db = SQLAlchemy(sqlite_url)
    app = FastAPI(lifespan=db.lifespan, telemetry={"tracer_provider": provider})

    @app.get("/sync")
    def one(session: Session = Depends(db.get_session)) -> int:
        return int(session.scalar(sa.select(sa.literal(1))) or 0)

    @app.get("/async")
    async def two(session: Any = Depends(db.get_async_session)) -> int:
        return int(await session.scalar(sa.select(sa.literal(1))))

    with TestClient(app) as client:
        exporter.clear()
        assert client.get("/async" if use_async else "/sync").json() == 1
    spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context is not None}
    (statement,) = [span for span in of_database(exporter) if span.name.startswith("SELECT")]
    names: list[str] = []
    parent = statement.parent
    while parent is not None and parent.span_id in spans:
        names.append(spans[parent.span_id].name)
        parent = spans[parent.span_id].parent
    assert "fastapi.endpoint" in names


def test_nothing_is_traced_after_close(sqlite_url: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    db = SQLAlchemy(sqlite_url)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    tracing.close()
    with db.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 2")
    assert len(of_database(exporter)) == 1
    provider.shutdown()


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("SELECT a1 FROM t2 WHERE x = 'it''s' AND y = 5", "SELECT a1 FROM t2 WHERE x = ? AND y = ?"),
        ("SELECT $1, %(p_1)s, :p2, ?", "SELECT $1, %(p_1)s, :p2, ?"),
        ("SELECT $$top secret$$, $q$x$q$, 1.5e10", "SELECT ?, ?, ?"),
        ("SELECT 'a\nb'", "SELECT ?"),
    ],
)
def test_literals_are_left_out_and_placeholders_stay(statement: str, shown: str) -> None:
    assert without_literals(statement) == shown
