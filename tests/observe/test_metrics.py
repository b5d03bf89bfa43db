"""Metrics: every figure is there, says what happened, and is on the dashboard by its name."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.observe.metrics import Metrics, metrics_router
from tests.support.client import TestClient

DASHBOARD = Path(__file__).parents[2] / "docs" / "how-to" / "grafana-dashboard.json"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Iterator[Metrics]:
    made = Metrics(registry=registry)
    yield made
    made.close()


def scraped(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """What the page says, by prometheus-client's own parser: name -> values of the labels -> value."""
    app = FastAPI()
    app.include_router(metrics_router(metrics))
    with TestClient(app) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def value(found: dict[str, dict[tuple[str, ...], float]], name: str, *labels: str) -> float:
    """The sample whose labels hold the given ones."""
    (only,) = [number for key, number in found[f"fastapi_sqlalchemy_{name}"].items() if set(labels) <= set(key)]
    return only


def test_statements_transactions_and_errors_are_counted(database_url: str, metrics: Metrics) -> None:
    db = SQLAlchemy(database_url)
    name = str(db.url.database).rpartition("/")[2]

    class Item(db.Base):
        id = sa.Column(sa.Integer, primary_key=True)

    db.create_all()
    before = scraped(metrics)
    with db(commit_on_exit=True):
        Item.new(id=1)
    with db():
        Item.get(1)
    with pytest.raises(sa.exc.IntegrityError), db(commit_on_exit=True):
        db.session.execute(sa.insert(Item).values(id=1))
    after = scraped(metrics)

    def more(figure: str, *labels: str) -> float:
        try:
            earlier = value(before, figure, name, "sync", *labels)
        except (KeyError, ValueError):
            earlier = 0.0
        return value(after, figure, name, "sync", *labels) - earlier

    assert more("commits_total") == 1
    assert more("rollbacks_total") >= 1
    assert more("statement_seconds_count", "INSERT") == 1, "the one that failed is an error, not a time"
    assert more("statement_seconds_count", "SELECT") == 1
    assert more("errors_total", "unique_violation") == 1
    assert more("checkout_seconds_count") >= 3
    assert value(after, "pool_in_use", name, "sync") == 0


def test_the_gate_tells_who_holds_and_who_waits(tmp_path: Path, metrics: Metrics) -> None:
    name = f"{uuid.uuid4().hex}.db"  # engines of one name are summed, and those of other tests may still live
    db = SQLAlchemy(f"sqlite:///{tmp_path / name}", engine_args={"pool_size": 1, "max_overflow": 0})
    gate: Any = db.engine.pool.gate  # type: ignore[attr-defined]
    with db.engine.connect():
        waiter = threading.Thread(target=lambda: db.engine.connect().close())
        waiter.start()
        while not gate.waiting and waiter.is_alive():
            waiter.join(0.01)
        held = scraped(metrics)
    waiter.join()
    free = scraped(metrics)
    for figure, during, later in (("pool_in_use", 1, 0), ("gate_held", 1, 0), ("gate_waiting", 1, 0)):
        assert (value(held, figure, name), value(free, figure, name)) == (during, later), figure
    assert value(free, "pool_capacity", name) == 1
    assert value(free, "pool_idle", name) == 1
    assert value(free, "checkout_seconds_count", name) == 2


@pytest.mark.backends("sqlite", "postgresql")
def test_async_engines_and_requests_are_measured(database_url: str, metrics: Metrics) -> None:
    db = SQLAlchemy(database_url)
    name = str(db.url.database).rpartition("/")[2]
    app = FastAPI(lifespan=db.lifespan)

    @app.get("/one")
    async def one(session: Any = Depends(db.get_async_session)) -> int:
        return int(await session.scalar(sa.select(sa.literal(1))))

    with TestClient(app) as client:
        assert client.get("/one").json() == 1
        found = scraped(metrics)
    assert value(found, "statement_seconds_count", name, "async", "SELECT") >= 1
    assert value(found, "checkout_seconds_count", name, "async") >= 1


def test_a_conflict_that_is_tried_again_is_counted(sqlite_url: str, metrics: Metrics) -> None:
    db = SQLAlchemy(sqlite_url)
    failures = [sa.exc.OperationalError("", {}, _serialization_failure())]

    @db.transaction(retries=2)
    def work() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert work() == "done"
    assert value(scraped(metrics), "retries_total") == 1


def _serialization_failure() -> Exception:
    error = Exception("conflict")
    error.sqlstate = "40001"  # type: ignore[attr-defined]
    return error


def test_replicas_are_told_without_their_users(sqlite_url: str) -> None:
    db = SQLAlchemy("postgresql://u:secret@h/shop", replicas=["postgresql://u:secret@replica:5433/shop"])
    registry = CollectorRegistry()
    metrics = Metrics(db, registry=registry)
    try:
        found = scraped(metrics)
        assert found["fastapi_sqlalchemy_replica_up"] == {("shop", "replica:5433"): 1.0}
        assert "secret" not in str(found)
    finally:
        metrics.close()


def test_after_close_nothing_listens_and_the_registry_is_free(sqlite_url: str) -> None:
    from fastapi_sqlalchemy.engines.listeners import is_observed

    db = SQLAlchemy(sqlite_url)
    with db.engine.connect():
        pass
    assert not is_observed(db.engine)
    registry = CollectorRegistry()
    first = Metrics(registry=registry)
    assert is_observed(db.engine)
    first.close()
    assert not is_observed(db.engine)
    Metrics(registry=registry).close()


def test_every_figure_of_the_dashboard_exists_and_every_figure_is_on_it(metrics: Metrics) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"fastapi_sqlalchemy_\w+", " ".join(expressions)))
    families = {family.name: family for family in metrics.registry.collect()}
    known = set()
    for name, family in families.items():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        known |= {name + suffix for suffix in suffixes}
    assert named <= known
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named}
    assert shown == set(families)
