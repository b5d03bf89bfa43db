"""Figures for Prometheus: pools, gates, statements, transactions, errors, retries and replicas.

The figures are those of every database of the process, told apart by the label ``database``, the name of the database
or of its file; ``mode`` is sync or async.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Connection, Engine, ExceptionContext

from ..database import SQLAlchemy
from ..engines.registry import live_engines
from ..exceptions import MissingExtraError
from ..transactions import unwatch_retries, watch_retries
from ..web.sqlstate import cause_of
from .engine_events import EngineEvents, Listener
from .statement import database_name

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.metrics_core import GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError(
        'Metrics need prometheus-client. Install it with: pip install "fastapi-sqlalchemy[metrics]"'
    ) from None

__all__ = ["Metrics", "metrics_router"]

_PREFIX = "fastapi_sqlalchemy_"
_STARTED = "_fastapi_sqlalchemy_metrics_started"
_OPERATIONS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_POOL = (
    ("pool_in_use", "Connections that are checked out."),
    ("pool_idle", "Connections that are open and idle."),
    ("pool_capacity", "Connections that the pool may have, overflow included."),
    ("gate_waiting", "Requests that wait for a connection."),
    ("gate_held", "Places at the gate that are taken."),
)


class Metrics:
    """Measures every database of this process from now on, and those that are opened later.

    ``registry`` is prometheus-client's own unless given; one registry takes one `Metrics`. ``databases`` are those
    whose replicas are told. ``buckets`` are the bounds of the histograms, in seconds. Measured reads go SQLAlchemy's
    whole way, not the shorter one that generated routes take where nobody looks.
    """

    def __init__(
        self,
        *databases: SQLAlchemy,
        registry: CollectorRegistry | None = None,
        buckets: Iterable[float] = _SECONDS,
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self.databases = databases
        bounds = tuple(buckets)
        labels = ("database", "mode")
        self.checkout = Histogram(
            _PREFIX + "checkout_seconds",
            "Seconds until a connection was had: the wait at the gate, and the opening of a new one.",
            labels,
            registry=self.registry,
            buckets=bounds,
        )
        self.statements = Histogram(
            _PREFIX + "statement_seconds",
            "Seconds that a statement took, by its operation.",
            (*labels, "operation"),
            registry=self.registry,
            buckets=bounds,
        )
        self.commits = Counter(_PREFIX + "commits", "Transactions that were committed.", labels, registry=self.registry)
        self.rollbacks = Counter(
            _PREFIX + "rollbacks", "Transactions that were rolled back.", labels, registry=self.registry
        )
        self.errors = Counter(
            _PREFIX + "errors", "Errors of the database, by class.", (*labels, "error"), registry=self.registry
        )
        self.retries = Counter(
            _PREFIX + "retries", "Transactions that were run again after a conflict.", registry=self.registry
        )
        self._gauges = _Gauges(databases)
        self.registry.register(self._gauges)
        self._events = EngineEvents(self._measure)
        watch_retries(self.retries.inc)

    def close(self) -> None:
        """Stop measuring, and leave the registry."""
        self._events.close()
        unwatch_retries(self.retries.inc)
        timers = {self.checkout.labels(*_labels(engine)).observe for engine in live_engines()}
        for engine in live_engines():
            pool: Any = engine.pool
            if hasattr(pool, "checkout_timers"):
                pool.checkout_timers = tuple(timer for timer in pool.checkout_timers if timer not in timers)
        collectors = (self.checkout, self.statements, self.commits, self.rollbacks, self.errors, self.retries)
        for collector in (*collectors, self._gauges):
            self.registry.unregister(collector)

    def _measure(self, engine: Engine) -> list[Listener]:
        labels = _labels(engine)
        checkout = self.checkout.labels(*labels)
        commits, rollbacks = self.commits.labels(*labels), self.rollbacks.labels(*labels)
        timers = {name: self.statements.labels(*labels, name) for name in (*_OPERATIONS, "OTHER")}
        pool: Any = engine.pool
        if hasattr(pool, "checkout_timers"):
            pool.checkout_timers = (*pool.checkout_timers, checkout.observe)

        def before(
            connection: Connection, _cursor: Any, _statement: str, _parameters: Any, _context: Any, _many: bool
        ) -> None:
            connection.info[_STARTED] = time.perf_counter()

        def after(
            connection: Connection, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
        ) -> None:
            started = connection.info.pop(_STARTED, None)
            if started is not None:
                word = statement.lstrip(" \t\r\n(")[:6].upper()
                timers[word if word in _OPERATIONS else "OTHER"].observe(time.perf_counter() - started)

        def committed(_connection: Connection) -> None:
            commits.inc()

        def rolled_back(_connection: Connection) -> None:
            rollbacks.inc()

        def failed(context: ExceptionContext) -> None:
            error = context.sqlalchemy_exception or context.original_exception
            cause = cause_of(error)
            self.errors.labels(*labels, type(error).__name__ if cause is None else cause.code).inc()

        return [
            ("before_cursor_execute", before),
            ("after_cursor_execute", after),
            ("commit", committed),
            ("rollback", rolled_back),
            ("handle_error", failed),
        ]


class _Gauges(Collector):
    """What is read from pools, gates and replicas at the moment of a scrape."""

    def __init__(self, databases: Iterable[SQLAlchemy]) -> None:
        self.databases = tuple(databases)

    def describe(self) -> Iterator[Metric]:
        yield from self._families({}, [])

    def collect(self) -> Iterator[Metric]:
        sums: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for engine in live_engines():
            found = sums[_labels(engine)]
            for name, value in _figures(engine):
                found[name] += value
        replicas = [
            (database_name(db.url.database), status) for db in self.databases for status in db.replicas.status()
        ]
        yield from self._families(sums, replicas)

    def _families(
        self, sums: dict[tuple[str, str], dict[str, float]], replicas: list[tuple[str, Any]]
    ) -> Iterator[Metric]:
        for name, text in _POOL:
            family = GaugeMetricFamily(_PREFIX + name, text, labels=("database", "mode"))
            for labels, figures in sums.items():
                if name in figures:
                    family.add_metric(list(labels), figures[name])
            yield family
        lag = GaugeMetricFamily(
            _PREFIX + "replica_lag_seconds",
            "How far a replica was behind when it was last asked.",
            labels=("database", "replica"),
        )
        up = GaugeMetricFamily(
            _PREFIX + "replica_up",
            "1 where a replica is read from, 0 where it lags or is left out.",
            labels=("database", "replica"),
        )
        for database, status in replicas:
            name = _server(status.url)
            if status.lag_seconds is not None:
                lag.add_metric([database, name], status.lag_seconds)
            up.add_metric([database, name], 1.0 if status.state in ("ok", "unknown") else 0.0)
        yield lag
        yield up


def metrics_router(
    metrics: Metrics | None = None, *, path: str = "/metrics", registry: CollectorRegistry | None = None
) -> APIRouter:
    """A route with the figures in Prometheus' text format, for ``app.include_router``; it needs no connection.

    It is not in the OpenAPI document and asks for no login: let the proxy keep it from the outside, or include it with
    ``dependencies=``. The registry is that of ``metrics``, else the one given, else prometheus-client's own.
    """
    source = metrics.registry if metrics is not None else registry if registry is not None else REGISTRY
    router = APIRouter()

    @router.get(path, include_in_schema=False)
    def show() -> Response:
        return Response(generate_latest(source), headers={"content-type": CONTENT_TYPE_LATEST})

    return router


def _labels(engine: Engine) -> tuple[str, str]:
    return database_name(engine.url.database), "async" if engine.dialect.is_async else "sync"


def _server(url: str) -> str:
    """Host and port of a URL: nothing of its user."""
    return url.rpartition("://")[2].rpartition("@")[2].partition("/")[0] or "local"


def _figures(engine: Engine) -> Iterator[tuple[str, float]]:
    pool: Any = engine.pool
    for name, method in (("pool_in_use", "checkedout"), ("pool_idle", "checkedin")):
        read = getattr(pool, method, None)
        if read is not None:
            yield name, read()
    gate = getattr(pool, "gate", None)
    if gate is not None:
        yield "pool_capacity", gate.capacity
        yield "gate_waiting", gate.waiting
        yield "gate_held", gate.held
