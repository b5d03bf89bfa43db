"""Applications with a database that a file of tests shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.support.caches import empty_caches

__all__ = ["running"]

System = TypeVar("System")


@contextmanager
def running(system: System) -> Iterator[System]:
    """Start what has a ``db`` and a ``client``, with empty tables; nothing is left of it at the end."""
    held: Any = system
    held.db.drop_all(confirmed=True)
    held.db.create_all()
    with held.client:
        yield system
        assert held.client.portal is not None
        held.client.portal.call(held.db.adispose)
    held.db.drop_all(confirmed=True)
    empty_caches()
    held.db.dispose()
