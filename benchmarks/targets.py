"""What the software aims at, row by row, and what a run has measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.contenders import WORKS

__all__ = ["PEERS", "TARGETS", "Grown", "Held", "Measured", "Score", "Target", "scores"]

PEERS = ("fastapi_sqlalchemy_021", "sqlmodel", "fastcrud", "advanced_alchemy", "fastapi_crudrouter")
SLACK = 1.2
"""How far the ratio of CPU may stay behind what is wanted of requests/s: other work of the machine is in it."""

Summary = Mapping[str, Mapping[str, Mapping[str, float]]]


class Measured(NamedTuple):
    """Two ratios; None where a run has no such figure."""

    rate: float | None
    cpu: float | None


@dataclass(frozen=True)
class Target:
    """One contender against the best of others at one work; ``wanted`` is the least ratio by database."""

    title: str
    work: str
    contender: str
    against: tuple[str, ...]
    wanted: Mapping[str, float]
    slack: float = SLACK
    is_least: bool = True

    def measured(self, backend: str, results: Mapping[str, Any]) -> Measured | None:
        """The ratios of requests/s and of CPU to the best of the others; None where it was not measured."""
        rows: Mapping[str, Mapping[str, float]] = results["results"].get(backend, {}).get(self.work, {})
        others = [rows[name] for name in self.against if name in rows]
        if self.contender not in rows or not others:
            return None
        ours = rows[self.contender]
        rate = ours["rate"] / max(max(row["rate"] for row in others), 1e-9)
        return Measured(rate, min(row["cpu_us"] for row in others) / ours["cpu_us"])


@dataclass(frozen=True)
class Slowest(Target):
    """The 99th percentile of the time of an answer, as a share of that of the others; ``wanted`` is the most."""

    is_least: bool = False

    def measured(self, backend: str, results: Mapping[str, Any]) -> Measured | None:
        """The share; CPU has no part in it."""
        rows: Mapping[str, Mapping[str, float]] = results["results"].get(backend, {}).get(self.work, {})
        others = [rows[name]["p99_ms"] for name in self.against if name in rows]
        if self.contender not in rows or not others or not min(others):
            return None
        return Measured(rows[self.contender]["p99_ms"] / min(others), None)


@dataclass(frozen=True)
class Held(Target):
    """The peak memory of a worker, as a multiple of that of the others; ``wanted`` is the most."""

    is_least: bool = False

    def measured(self, backend: str, results: Mapping[str, Any]) -> Measured | None:
        """The multiple; it is neither requests/s nor CPU, and stands for both."""
        memory: Mapping[str, float] = results["memory_kib"].get(backend, {})
        others = [memory[name] for name in self.against if name in memory]
        if self.contender not in memory or not others:
            return None
        return Measured(memory[self.contender] / min(others), None)


@dataclass(frozen=True)
class Grown(Target):
    """The time of the deepest page by cursor, as a multiple of that of the first; ``wanted`` is the most."""

    is_least: bool = False

    def measured(self, backend: str, results: Mapping[str, Any]) -> Measured | None:
        """The multiples of the time of one request, and of its CPU."""
        points = list(results.get("growth", {}).get(backend, {}).get("depth", {}).values())
        if len(points) < 2 or not all(point["rate"] for point in points):
            return None
        return Measured(points[0]["rate"] / points[-1]["rate"], points[-1]["cpu_us"] / points[0]["cpu_us"])


class Score(NamedTuple):
    """One row of the scorecard, measured on one database."""

    target: Target
    backend: str
    wanted: float
    measured: Measured

    @property
    def is_met(self) -> bool | None:
        """Whether requests/s, or the one figure there is, are as wanted."""
        return self._is_met(self.measured.rate, 1)

    @property
    def is_met_by_cpu(self) -> bool | None:
        """Whether the CPU of a request is, with its slack; None where CPU has no part in it."""
        return self._is_met(self.measured.cpu, self.target.slack)

    def _is_met(self, found: float | None, slack: float) -> bool | None:
        if found is None:
            return None
        return found >= self.wanted / slack if self.target.is_least else found <= self.wanted * slack


def scores(results: Mapping[str, Any]) -> Iterator[Score]:
    """The rows that a run has measured, in the order of the targets."""
    for target in TARGETS:
        for backend, wanted in target.wanted.items():
            found = target.measured(backend, results)
            if found is not None:
                yield Score(target, backend, wanted, found)


def _generated(work: str, sqlite: float, postgresql: float, asynchronous: float) -> list[Target]:
    return [
        Target(
            f"{work}: CRUDRouter to hand-written sync",
            work,
            "ours_router",
            ("tutorial_sync",),
            {"sqlite": sqlite, "postgresql": postgresql},
        ),
        Target(
            f"{work}: CRUDRouter to hand-written async",
            work,
            "ours_router",
            ("tutorial_async",),
            {"postgresql": asynchronous},
        ),
    ]


def _own(work: str, name: str, title: str, against: str, wanted: Mapping[str, float]) -> Target:
    return Target(f"{work}: {title}", work, name, (against,), wanted)


_BOTH = ("sqlite", "postgresql")
_TUTORIALS = {
    "ours_middleware": ("tutorial_sync", "own `def` route by the middleware"),
    "ours_dependency": ("tutorial_sync", "own `def` route by the dependency"),
    "ours_async": ("tutorial_async", "own `async def` route"),
}

TARGETS: tuple[Target, ...] = (
    *_generated("read one", 8, 5, 2.8),
    *_generated("list of 100", 10, 5, 3.5),
    *_generated("with the total", 10, 4, 2.2),
    *_generated("filter and sort", 7, 4, 2),
    *_generated("with children", 7, 4.5, 3),
    *_generated("create", 2.8, 4, 2.3),
    Slowest("create: p99 as a share of hand-written", "create", "ours_router", ("tutorial_sync",), {"sqlite": 0.10}),
    *(
        Target(f"{work}: CRUDRouter {title}", work, "ours_router", against, {"sqlite": low, "postgresql": high})
        for work, title, against, low, high in (
            ("read one", "to the best peer", PEERS, 5, 3.3),
            ("list of 100", "to the best peer", PEERS, 5, 4),
            ("create", "to the best peer", PEERS, 1, 1),
            ("read one", "as a share of the raw driver", ("raw",), 0.4, 0.45),
            ("list of 100", "as a share of the raw driver", ("raw",), 0.7, 0.6),
        )
    ),
    *(
        target
        for name in ("ours_middleware", "ours_dependency")
        for target in (
            _own("read one", name, _TUTORIALS[name][1], "tutorial_sync", {"sqlite": 1.2, "postgresql": 1.2}),
            _own("list of 100", name, _TUTORIALS[name][1], "tutorial_sync", {"sqlite": 1.4, "postgresql": 1.2}),
        )
    ),
    *(
        _own(work, "ours_async", _TUTORIALS["ours_async"][1], "tutorial_async", {"postgresql": 1.05})
        for work in ("read one", "list of 100")
    ),
    *(
        Target(f"{work}: {title}, never slower", work, name, (against,), dict.fromkeys(databases, 1.0), slack=1.1)
        for work in WORKS
        for name, (against, title) in _TUTORIALS.items()
        for databases in (_BOTH if work == "create" else ("sqlite",) if name == "ours_async" else (),)
        if databases and work in ("read one", "list of 100", "create")
    ),
    Target("no database: with the middleware", "no database", "ours_middleware", ("bare",), {"sqlite": 0.97}, 1.05),
    Grown("page at row 1,000,000 to page 1", "list of 100", "ours_growth", (), dict.fromkeys(_BOTH, 1.3), 1.0),
    *(
        Held(f"peak memory: {title} to hand-written", "", name, ("tutorial_sync",), dict.fromkeys(_BOTH, 1.05))
        for name, title in (("ours_router", "CRUDRouter"), ("ours_middleware", "own `def` routes"))
    ),
)
