"""The contenders: which file, which environment, and by which path each does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BASE", "CONTENDERS", "WORKS", "Contender", "rows_of"]

WORKS = ("no database", "read one", "list of 100", "with the total", "filter and sort", "with children", "create")
"""``with the total`` and ``with children`` are lists too; ``create`` posts."""

BASE = "tutorial_sync"
"""The measure of all ratios."""

_PLAIN = {"no database": "/plain"}
_READS = {"read one": "/users/500", "list of 100": "/users?limit=100"}
_HAND_WRITTEN = {
    **_PLAIN,
    **_READS,
    "with the total": "/counted?limit=100",
    "filter and sort": "/filtered?city=Oslo&limit=20",
    "with children": "/authors?limit=20",
    "create": "/users",
}
_OURS = {
    **_READS,
    "with the total": "/users?limit=100&count=exact",
    "filter and sort": "/users?city=Oslo&sort=-age&limit=20",
    "with children": "/authors?limit=20&include=books",
    "create": "/users",
}
_ROUTES = {**_READS, "create": "/users"}


@dataclass(frozen=True)
class Contender:
    """One application.

    ``paths`` are by work. ``requirements`` are those of an environment of its own, empty for the project's.
    ``databases`` are the only ones that it serves.
    """

    name: str
    title: str
    paths: Mapping[str, str]
    requirements: tuple[str, ...] = ()
    databases: tuple[str, ...] = ("sqlite", "postgresql", "mysql")
    ours: bool = False


_STACK = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "psycopg[binary]==3.3.9", "asyncpg==0.32.0")
_STACK += ("aiosqlite==0.22.1", "pymysql", "asyncmy", "greenlet")
_FIELDS = ("id", "name", "email", "age", "city", "is_active")

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("tutorial_sync", "hand-written, sync", _HAND_WRITTEN),
        Contender("tutorial_async", "hand-written, async", _HAND_WRITTEN),
        Contender("ours_router", "**CRUDRouter**", _OURS, ours=True),
        Contender("ours_router_psycopg", "**CRUDRouter**, psycopg", _OURS, databases=("postgresql",), ours=True),
        Contender("ours_middleware", "**our middleware**, `def` routes", {**_PLAIN, **_ROUTES}, ours=True),
        Contender("ours_dependency", "**our dependency**, `def` routes", _ROUTES, ours=True),
        Contender("ours_async", "**our dependency**, `async def` routes", _ROUTES, ours=True),
        Contender("raw", "raw driver on Starlette", _READS, databases=("sqlite", "postgresql")),
        Contender("bare", "FastAPI without a database", _PLAIN),
        Contender(
            "fastapi_sqlalchemy_021",
            "fastapi-sqlalchemy 0.2.1",
            {**_PLAIN, **_ROUTES},
            ("fastapi-sqlalchemy==0.2.1", "sqlalchemy==2.1.9", *_STACK),
        ),
        Contender("sqlmodel", "SQLModel", _ROUTES, ("sqlmodel==0.0.50", *_STACK)),
        Contender(
            "fastcrud",
            "FastCRUD",
            {
                "read one": "/users/500",
                "list of 100": "/users?offset=0&limit=100",
                "create": "/users",
            },
            ("fastcrud==0.23.0", *_STACK),
        ),
        Contender("advanced_alchemy", "advanced-alchemy", _ROUTES, ("advanced-alchemy==1.12.0", *_STACK)),
        Contender(
            "fastapi_crudrouter",
            "fastapi-crudrouter",
            {**_ROUTES, "list of 100": "/users?skip=0&limit=100"},
            (
                "fastapi-crudrouter==0.8.6",
                "fastapi==0.99.1",
                "pydantic<2",
                "sqlalchemy<2",
                "psycopg2-binary",
                "pymysql",
                "uvicorn[standard]",
            ),
        ),
    )
}


def rows_of(answer: Any) -> Any:
    """The rows of an answer, whatever stands around them, with the fields that all contenders have."""
    if isinstance(answer, dict):
        for name in ("data", "items"):
            if isinstance(answer.get(name), list):
                return rows_of(answer[name])
        if "email" in answer:
            return {name: answer[name] for name in _FIELDS}
        return answer
    return [rows_of(item) for item in answer] if isinstance(answer, list) else answer
