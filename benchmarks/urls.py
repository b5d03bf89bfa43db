"""The database of a run, by the drivers that the contenders use; imports nothing, for peers have other versions."""

from __future__ import annotations

import os

URL = os.environ.get("BENCHMARK_URL", "sqlite:///benchmark.db")


def sync_url(url: str = URL) -> str:
    """The URL with the synchronous driver that every contender uses."""
    return url.replace("postgresql://", "postgresql+psycopg://").replace("mysql://", "mysql+pymysql://")


def async_url(url: str = URL) -> str:
    """The URL with the asynchronous driver that every contender uses."""
    return (
        url.replace("sqlite://", "sqlite+aiosqlite://")
        .replace("postgresql://", "postgresql+asyncpg://")
        .replace("mysql://", "mysql+asyncmy://")
    )
