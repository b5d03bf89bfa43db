"""Servers and databases that the reliability tests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from fastapi_sqlalchemy.engines import replicas, watchdog

from .databases import KINDS, Database, new_database
from .replication import Primary, Standby
from .servers import AppServer, Nursery
from .wire import fetch


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Nursery:
    return Nursery(tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="session", params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of the run's own."""
    with new_database(request.param, tmp_path_factory.mktemp("database")) as database:
        yield database


@pytest.fixture(scope="session")
def shop(database: Database, nursery: Nursery) -> Iterator[AppServer]:
    """The shop application under uvicorn, on that database."""
    server = nursery.start("shop", env={"RELIABILITY_URL": database.url})
    yield server
    server.stop()


@pytest.fixture(scope="session")
def primary() -> Iterator[Primary]:
    """A PostgreSQL of the run's own; tests that use it share the xdist group "replication"."""
    server = Primary()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def standby(primary: Primary) -> Iterator[Standby]:
    """Its streaming replica."""
    server = Standby(primary)
    yield server
    server.remove()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give replicas time to answer: the test is about something else, and the machine may be busy."""
    monkeypatch.setattr(replicas, "ATTEMPT", 10.0)
    monkeypatch.setattr(watchdog, "GREETING", 10.0)


def eventually(check: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether ``check`` becomes true in time."""
    give_up = time.monotonic() + seconds
    while not check():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def doors(*, asynchronous: bool | None = None) -> list[str]:
    """The prefixes of the shop's doors."""
    modes = ["sync", "async"] if asynchronous is None else ["async" if asynchronous else "sync"]
    return [f"/{door}/{mode}" for door in ("middleware", "dependency") for mode in modes]


def checked_out(server: AppServer) -> int:
    """How many connections of the server's pools are out."""
    return int(asyncio.run(fetch(server.port, "GET", "/checked-out")).body)
