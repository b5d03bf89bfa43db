"""The pytest plugin of fastapi-sqlalchemy: settings, markers and fixtures.

It stands beside the package because pytest imports it in every run: the package, and with it FastAPI and SQLAlchemy,
is imported by the first test that uses a fixture of these.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from fastapi_sqlalchemy import SQLAlchemy
    from fastapi_sqlalchemy.testing import assert_queries as _assert_queries

__all__ = [
    "assert_queries",
    "isolated_databases",
    "sqlalchemy_databases",
    "sqlalchemy_tables",
]

_FLAGS = {
    "isolate": "roll back after every test whatever it commits",
    "nplusone": "fail every test that loads related objects one by one",
    "worker_databases": "give this process, or each worker of xdist, databases of its own",
}
_MARKERS = (
    "not_isolated: run the test without db.isolated(); what it commits stays",
    "forbid_nplusone(threshold=2): fail the test if it loads related objects one by one",
    "allow_nplusone: let the test load related objects one by one",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    where = 'the databases of the project, "app.database:db", where pyproject.toml does not name them'
    parser.addini("fastapi_sqlalchemy_db", where, type="string", default="")
    for name, text in _FLAGS.items():
        parser.addini(f"fastapi_sqlalchemy_{name}", text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and add the fixtures that a setting asks for."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    plugins = config.pluginmanager
    if not plugins.has_plugin("django"):  # pytest-django has a fixture of that name
        plugins.register(*_short_name())
    if config.getini("fastapi_sqlalchemy_worker_databases"):
        plugins.register(*_worker_databases())
    if config.getini("fastapi_sqlalchemy_isolate"):
        plugins.register(*_isolation())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test in its own phase on N+1 loads, where a marker or the setting asks for it."""
    marker = item.get_closest_marker("forbid_nplusone")
    allowed = item.get_closest_marker("allow_nplusone") is not None
    if marker is None and (allowed or not item.config.getini("fastapi_sqlalchemy_nplusone")):
        return (yield)
    from fastapi_sqlalchemy.observe.nplusone import THRESHOLD
    from fastapi_sqlalchemy.testing import forbid_nplusone

    threshold: int = THRESHOLD if marker is None else marker.kwargs.get("threshold", THRESHOLD)
    with forbid_nplusone(everywhere=True, threshold=threshold):
        return (yield)


@pytest.fixture(scope="session")
def sqlalchemy_databases(pytestconfig: pytest.Config) -> Sequence[SQLAlchemy]:
    """The databases of the project, found as the command line finds them; override it to name others."""
    from fastapi_sqlalchemy.discovery import find_databases
    from fastapi_sqlalchemy.exceptions import ConfigurationError

    spec: str = pytestconfig.getini("fastapi_sqlalchemy_db")
    try:
        return [found.db for found in find_databases(spec or None, folder=pytestconfig.rootpath)]
    except ConfigurationError as error:
        error.add_note(
            'In tests: set fastapi_sqlalchemy_db = "app.database:db" in the settings of pytest, or override the '
            "fixture sqlalchemy_databases."
        )
        raise


@pytest.fixture(scope="session")
def _sqlalchemy_own_databases(
    sqlalchemy_databases: Sequence[SQLAlchemy], pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[bool]:
    """Make the databases of this worker where the setting asks for them; whether it does."""
    own = bool(pytestconfig.getini("fastapi_sqlalchemy_worker_databases"))
    with ExitStack() as stack:
        if own:
            from fastapi_sqlalchemy.testing.databases import worker_database

            worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
            folder = tmp_path_factory.mktemp("databases")
            for database in sqlalchemy_databases:
                stack.enter_context(worker_database(database, worker, folder))
        yield own


@pytest.fixture(scope="session")
def sqlalchemy_tables(_sqlalchemy_own_databases: bool, sqlalchemy_databases: Sequence[SQLAlchemy]) -> None:
    """Bring the tables up once, as the application does: missing ones are made, or migrations run.

    Override it to prepare the databases otherwise.
    """
    from fastapi_sqlalchemy.testing.isolation import prepare_tables

    for database in sqlalchemy_databases:
        prepare_tables(database, own=_sqlalchemy_own_databases)


@pytest.fixture
def isolated_databases(
    request: pytest.FixtureRequest, sqlalchemy_tables: None, sqlalchemy_databases: Sequence[SQLAlchemy]
) -> Iterator[Sequence[SQLAlchemy]]:
    """All databases of the project, inside of ``db.isolated()``: what the test commits is gone after it."""
    test = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType]
    with ExitStack() as stack:
        if test.get_closest_marker("not_isolated") is None:
            for database in sqlalchemy_databases:
                stack.enter_context(database.isolated())
        yield sqlalchemy_databases


@pytest.fixture
def assert_queries() -> type[_assert_queries]:
    """`fastapi_sqlalchemy.testing.assert_queries`, for ``with assert_queries(3):``."""
    from fastapi_sqlalchemy.testing import assert_queries

    return assert_queries


def _plugin_of(name: str, fixture: object) -> tuple[ModuleType, str]:
    """A plugin with one fixture, and its name: a fixture of this module would be there without the setting."""
    plugin = ModuleType(f"fastapi_sqlalchemy_{name}")
    setattr(plugin, name, fixture)
    return plugin, plugin.__name__


def _short_name() -> tuple[ModuleType, str]:
    @pytest.fixture
    def db(isolated_databases: Sequence[SQLAlchemy]) -> SQLAlchemy:
        """The database of the project, isolated; the first one where there are several."""
        return isolated_databases[0]

    return _plugin_of("db", db)


def _worker_databases() -> tuple[ModuleType, str]:
    @pytest.fixture(scope="session", autouse=True)
    def _sqlalchemy_worker_databases(sqlalchemy_tables: None) -> None:
        """Before anything is connected, the databases are those of this worker."""

    return _plugin_of("worker_databases", _sqlalchemy_worker_databases)


def _isolation() -> tuple[ModuleType, str]:
    @pytest.fixture(autouse=True)
    def _sqlalchemy_isolation(isolated_databases: Sequence[SQLAlchemy]) -> None:
        """Every test runs inside of ``db.isolated()``."""

    return _plugin_of("isolation", _sqlalchemy_isolation)
