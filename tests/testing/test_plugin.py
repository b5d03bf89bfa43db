"""The pytest plugin in runs of pytest of its own, over a project with three databases."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.databases import server_url, temporary_database
from tests.support.nursery import programs, python
from tests.support.plugins import WITHOUT_FOREIGN_PLUGINS

PROJECT = Path(__file__).parent / "project"
SETTINGS = """
[tool.fastapi-sqlalchemy]
db = ["shop:lite", "shop:postgres", "shop:maria"]

[tool.pytest.ini_options]
addopts = ["--strict-markers", "--strict-config", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
filterwarnings = ["error"]
asyncio_mode = "{mode}"
asyncio_default_fixture_loop_scope = "function"
{settings}
"""
FAILING = {
    "test_too_many_queries_are_listed",
    "test_too_many_queries_are_listed_in_async",
    "test_loading_one_by_one_is_forbidden",
    "test_so_is_a_response_that_loads_them",
    "test_the_setting_forbids_it_everywhere",
}


class Run:
    """What a run of pytest said: ``failed`` are the messages of the tests that failed, by name."""

    def __init__(self, report: Path, output: str) -> None:
        self.output = output
        self.passed: list[str] = []
        self.failed: dict[str, str] = {}
        for case in ET.parse(report).iter("testcase"):
            failure = case.find("failure")
            if failure is None:
                failure = case.find("error")
            if failure is None:
                self.passed.append(str(case.get("name")))
            else:
                self.failed[str(case.get("name"))] = f"{failure.get('message')}\n{failure.text}"


@pytest.fixture
def urls(sqlite_url: str) -> Iterator[Mapping[str, str]]:
    """One database of each kind, by the variables that the project reads."""
    found = {"SHOP_SQLITE": sqlite_url}
    with ExitStack() as stack:
        for name in ("postgresql", "mariadb"):
            if server_url(name) is None:
                pytest.skip(f"NO {name.upper()} SERVER TAKES PART (see CONTRIBUTING.md, Databases)")
            found[f"SHOP_{name.upper()}"] = stack.enter_context(temporary_database(name))
        yield found


@pytest.fixture
def run_pytest(urls: Mapping[str, str], tmp_path: Path) -> Callable[..., Run]:
    """Run pytest over the project with these settings."""

    def run(*arguments: str, mode: str = "strict", settings: str = "", **environment: str) -> Run:
        folder = tmp_path / "project"
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "cases.py").replace(folder / "test_cases.py")
        (folder / "pyproject.toml").write_text(SETTINGS.format(mode=mode, settings=settings))
        report = tmp_path / "report.xml"
        command = [str(programs() / "pytest"), "-q", *WITHOUT_FOREIGN_PLUGINS]
        done = subprocess.run(
            [*command, f"--junitxml={report}", f"--basetemp={tmp_path / 'temp'}", *arguments],
            cwd=folder,
            env={**os.environ, **urls, "SHOP_ASYNCIO_MODE": mode, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert report.is_file(), done.stdout + done.stderr
        return Run(report, done.stdout + done.stderr)

    return run


def rows(urls: Mapping[str, str]) -> list[int]:
    """How many authors each database has; it has the table."""
    found: list[int] = []
    for url in urls.values():
        engine = sa.create_engine(url.replace("mysql:", "mysql+pymysql:"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            found.append(connection.scalar(sa.text("SELECT count(*) FROM author")) or 0)
        engine.dispose()
    return found


def test_every_test_is_isolated_under_asyncio_strict_and_anyio(
    run_pytest: Callable[..., Run], urls: Mapping[str, str]
) -> None:
    run = run_pytest(settings="fastapi_sqlalchemy_isolate = true\nfastapi_sqlalchemy_nplusone = true")
    assert set(run.failed) == FAILING, run.output
    assert rows(urls) == [0, 0, 0]

    listed = run.failed["test_too_many_queries_are_listed"]
    assert "1 query was expected, 2 were run." in listed
    assert "1. INSERT INTO author (name) VALUES (?)" in listed
    assert "in test_too_many_queries_are_listed" in listed
    assert "at test_cases.py:" in listed
    assert "at most 0 queries were expected, 1 was run." in run.failed["test_too_many_queries_are_listed_in_async"]

    for name in ("test_loading_one_by_one_is_forbidden", "test_the_setting_forbids_it_everywhere"):
        assert "N+1: Author.books was loaded by 2 statements" in run.failed[name]
        assert "at test_cases.py:" in run.failed[name]
        assert "in _load_one_by_one. Load it with the objects: select(Author)" in run.failed[name]
    found = run.failed["test_so_is_a_response_that_loads_them"]
    assert "N+1: Author.books was loaded by 2 statements" in found
    assert re.search(r"at shop.py:\d+ in list_authors\.", found)


def test_workers_have_databases_of_their_own_and_drop_them(
    run_pytest: Callable[..., Run], urls: Mapping[str, str]
) -> None:
    settings = "fastapi_sqlalchemy_isolate = true\nfastapi_sqlalchemy_worker_databases = true"
    workers = ("--dist=load", f"--tx=2*popen//python={python()}")
    run = run_pytest(*workers, "-k", "worker or nothing_stays", mode="auto", settings=settings, SHOP_OWN="1")
    assert not run.failed, run.output
    assert len(run.passed) == 25
    with pytest.raises(sa.exc.OperationalError):
        rows({"": urls["SHOP_SQLITE"]})
    assert not list(Path(urls["SHOP_SQLITE"].removeprefix("sqlite:///")).parent.glob("**/*_gw*.db"))
    for name, query in (
        ("postgresql", "SELECT datname FROM pg_database"),
        ("mariadb", "SELECT schema_name FROM information_schema.schemata"),
    ):
        url = sa.make_url(urls[f"SHOP_{name.upper()}"])
        driver = "postgresql+psycopg" if name == "postgresql" else "mysql+pymysql"
        engine = sa.create_engine(url.set(drivername=driver), poolclass=sa.NullPool)
        with engine.connect() as connection:
            left = connection.exec_driver_sql(query).scalars().all()
        assert [database for database in left if str(database).startswith(f"{url.database}_")] == []


def test_a_run_without_it_imports_nothing_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_nothing_is_imported(request):\n"
        "    assert request.config.pluginmanager.has_plugin('fastapi_sqlalchemy')\n"
        "    assert not {'fastapi_sqlalchemy', 'fastapi', 'sqlalchemy'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", *WITHOUT_FOREIGN_PLUGINS, "test_plain.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
