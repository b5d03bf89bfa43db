"""Databases, pools that must be empty after every test, and the figures at the end of a run."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_sqlalchemy.engines import live_engines
from tests.support.caches import empty_caches
from tests.support.databases import (
    SERVERS,
    Servers,
    drop_spare_databases,
    note_part,
    server_url,
    temporary_database,
)
from tests.support.figures import read_figures, record_figure
from tests.support.nursery import close_nursery, open_nursery

_REQUIRED = (*SERVERS, "chromium")
_servers: Servers | None = None
_folder: Path | None = None

SLOW = 0.005
"""Seconds of a collection after which all that outlives it is looked through no more."""


def pytest_configure(config: pytest.Config) -> None:
    """Find or start the servers once, before the workers are started.

    No bytecode is kept of modules that tests write: one that is written anew within a second would not be noticed.
    That of the tests themselves is: pytest rewrites their assertions, which takes longer than all else of a collection.
    """
    global _servers, _folder
    sys.dont_write_bytecode = False
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if hasattr(config, "workerinput"):
        return
    _folder = Path(tempfile.mkdtemp(prefix="fsa-tests-"))
    for name in ("parts", "figures"):
        (_folder / name).mkdir()
    os.environ["FSA_TEST_FIGURES"] = str(_folder / "figures")
    _servers = Servers(_folder / "parts")
    open_nursery()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Drop and stop what was made and started."""
    drop_spare_databases()
    close_nursery()
    if _servers is not None:
        _servers.stop()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``@pytest.mark.backends(...)`` does not name, and keep those together that share a fixture."""
    unwanted = [item for item in items if not _is_wanted(item)]
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if _is_wanted(item)]
    for item in items:
        shared = _shared_fixtures(item)
        if shared and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(" ".join((item.location[0], *shared))))


def _shared_fixtures(item: pytest.Item) -> list[str]:
    """The fixtures that a test shares with others of its file, each with the number of its parameter."""
    indices = item.callspec.indices if hasattr(item, "callspec") else {}
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    return [f"{name}={indices.get(name)}" for name, found in definitions.items() if found[-1].scope == "module"]


def _is_wanted(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("backends")
    backend = getattr(item, "callspec", None) and item.callspec.params.get("database_url")  # type: ignore[attr-defined]
    return marker is None or backend is None or backend in marker.args


def pytest_collection_finish(session: pytest.Session) -> None:
    """See that xdist keeps groups together, and keep what is loaded by now out of the collections after every test."""
    sys.dont_write_bytecode = True
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            marker = item.get_closest_marker("xdist_group")
            if marker is not None and not item.nodeid.endswith(f"@{marker.args[0]}"):
                raise pytest.UsageError(f"pytest-xdist does not see the group of {item.nodeid}: a pytest too new?")
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CI=true a whole run fails when PostgreSQL, MariaDB or Chromium took no part."""
    if _servers is None or os.environ.get("CI") != "true" or not _is_whole_run(session.config):
        return
    if exitstatus == pytest.ExitCode.OK and set(_REQUIRED) - set(_servers.took_part()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which databases took part, and print the figures of the scorecard."""
    if _servers is None or _folder is None:
        return
    took_part = _servers.took_part()
    terminalreporter.section("databases and browser that took part")
    for name in ("sqlite", *_REQUIRED):
        terminalreporter.line(f"{name}: {took_part.get(name, 'NO PART: its tests did not run')}")
    if os.environ.get("CI") == "true" and _is_whole_run(config) and set(_REQUIRED) - set(took_part):
        terminalreporter.line("CI=true: the run fails, since PostgreSQL, MariaDB and Chromium have to take part.")
    figures = read_figures(_folder / "figures")
    if to := os.environ.get("RELIABILITY_FIGURES"):
        Path(to).write_text(json.dumps(figures))
    if figures:
        terminalreporter.section("figures of the scorecard")
        for entry in figures:
            line, variant = entry.pop("line"), entry.pop("variant")
            values = ", ".join(f"{name}={value}" for name, value in entry.items() if value is not None)
            terminalreporter.line(f"{line:8} {variant:40} {values}")


def _is_whole_run(config: pytest.Config) -> bool:
    return not config.getoption("file_or_dir") and not config.getoption("keyword")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of async tests."""
    return "asyncio"


@pytest.fixture(autouse=True)
def pools_are_empty() -> Iterator[None]:
    """After every test no connection is checked out of any pool, and nothing is left for the collector to warn of."""
    yield
    empty_caches()
    started = time.perf_counter()
    gc.collect()
    if time.perf_counter() - started > SLOW:
        gc.freeze()
    leaks = [
        f"{engine.url!r}: {engine.pool.status()}"
        for engine in live_engines()
        if getattr(engine.pool, "checkedout", lambda: 0)() > 0
    ]
    for engine in live_engines():
        if not engine.dialect.is_async:
            engine.dispose()
    assert not leaks, "connections left checked out: " + "; ".join(leaks)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of the xdist group "browser"."""
    from tests.support.browser import open_browser

    with open_browser() as browser:
        yield browser


@pytest.fixture
def figure() -> Callable[..., None]:
    """Record a line of the scorecard: ``figure("R3", variant="sqlite sync", n=500, seed=1, failures=0)``."""
    return record_figure


@pytest.fixture(scope="session")
def size() -> Callable[[int, int], int]:
    """``size(small, full)``: how often to do it in this run; ``RELIABILITY`` is small, full or a share such as 0.1.

    A bound that is stricter in the full form stands in the second place too, and a share leaves it as it is.
    """
    wanted = os.environ.get("RELIABILITY", "small")
    share = {"small": 0.0, "full": 1.0}.get(wanted)
    share = float(wanted) if share is None else share

    def choose(small: int, full: int) -> int:
        return full if share == 1 else max(small, round(full * share)) if share else small

    return choose


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of this run's random choices; ``RELIABILITY_SEED`` repeats another run's."""
    return int(os.environ.get("RELIABILITY_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    note_part("sqlite", _sqlite_version())
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def memory_url() -> str:
    """SQLite in memory."""
    note_part("sqlite", _sqlite_version())
    return "sqlite://"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A new database on PostgreSQL."""
    yield from _database("postgresql")


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """A new database on MariaDB."""
    yield from _database("mariadb")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new database on each of SQLite, PostgreSQL and MariaDB; ``@pytest.mark.backends(...)`` restricts them."""
    if request.param == "sqlite":
        note_part("sqlite", _sqlite_version())
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        yield from _database(request.param)


def _database(name: str) -> Iterator[str]:
    if server_url(name) is None:
        pytest.skip(f"NO {name.upper()} SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
    with temporary_database(name) as url:
        yield url


def _sqlite_version() -> str:
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version}"
