"""What the software aims at: ratios to hand-written code and to the best of the peers, by work and database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]

PEERS = ("fastapi_sqlalchemy_021", "sqlmodel", "fastcrud", "advanced_alchemy", "fastapi_crudrouter")


@dataclass(frozen=True)
class Target:
    """One contender against others at one work; ``wanted`` is the least ratio by database."""

    title: str
    work: str
    contender: str
    against: tuple[str, ...]
    wanted: Mapping[str, float]

    def measured(
        self, backend: str, summary: Mapping[str, Mapping[str, Mapping[str, float]]]
    ) -> tuple[float, float] | None:
        """The ratios of requests/s and of CPU to the best of the others; None where it was not measured."""
        rows = summary.get(self.work, {})
        others = [rows[name] for name in self.against if name in rows]
        if backend not in self.wanted or self.contender not in rows or not others:
            return None
        ours = rows[self.contender]
        rate = ours["rate"] / max(max(row["rate"] for row in others), 1e-9)
        return rate, min(row["cpu_us"] for row in others) / ours["cpu_us"]


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


TARGETS = (
    *_generated("read one", 8, 5, 2.8),
    *_generated("list of 100", 10, 5, 3.5),
    *_generated("with the total", 10, 4, 2.2),
    *_generated("filter and sort", 7, 4, 2),
    *_generated("with children", 7, 4.5, 3),
    *_generated("create", 2.8, 4, 2.3),
    *(
        Target(f"{work}: CRUDRouter {title}", work, "ours_router", against, {"sqlite": low, "postgresql": high})
        for work, title, against, low, high in (
            ("read one", "to the best peer", PEERS, 5, 3.3),
            ("list of 100", "to the best peer", PEERS, 5, 4),
            ("read one", "as a share of the raw driver", ("raw",), 0.4, 0.45),
            ("list of 100", "as a share of the raw driver", ("raw",), 0.7, 0.6),
        )
    ),
    *(
        Target(f"{work}: {title}", work, name, (against,), wanted)
        for work, name, title, against, wanted in (
            ("read one", "ours_middleware", "own `def` route", "tutorial_sync", {"sqlite": 1.2, "postgresql": 1.2}),
            ("list of 100", "ours_middleware", "own `def` route", "tutorial_sync", {"sqlite": 1.4, "postgresql": 1.2}),
            ("read one", "ours_async", "own `async def` route", "tutorial_async", {"postgresql": 1.05}),
            ("list of 100", "ours_async", "own `async def` route", "tutorial_async", {"postgresql": 1.05}),
        )
    ),
    Target("no database: with the middleware", "no database", "ours_middleware", ("bare",), {"sqlite": 0.97}),
)
