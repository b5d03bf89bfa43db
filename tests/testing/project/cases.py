"""The tests of that project."""

import os
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
import shop
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from fastapi_sqlalchemy import SQLAlchemy

NAMES = pytest.mark.parametrize("name", list(shop.databases))
TWICE = pytest.mark.parametrize("run", [1, 2])
AUTO = os.environ.get("SHOP_ASYNCIO_MODE") == "auto"
in_asyncio = (lambda function: function) if AUTO else pytest.mark.asyncio


@NAMES
@TWICE
def test_requests_commit_and_nothing_stays(name: str, run: int) -> None:
    with TestClient(shop.app) as client:
        assert [client.post(f"/{name}/{way}").json() for way in ("sync", "async", "engine")] == [1, 3, 4]


@NAMES
@TWICE
def test_the_command_line_commits_and_nothing_stays(name: str, run: int) -> None:
    result = CliRunner().invoke(shop.cli, [name])
    assert result.exit_code == 0, result.output
    with shop.databases[name]():
        assert [author.name for author in shop.authors[name].query] == ["cli"]


@NAMES
@TWICE
@in_asyncio
async def test_asyncio_commits_and_nothing_stays(name: str, run: int) -> None:
    await _commit_async(name)


@NAMES
@TWICE
@pytest.mark.anyio
async def test_anyio_commits_and_nothing_stays(name: str, run: int) -> None:
    await _commit_async(name)


async def _commit_async(name: str) -> None:
    async with shop.databases[name]():
        await shop.authors[name].anew(name="a")
    async with shop.databases[name]():
        assert len(await shop.authors[name].aget_all()) == 1
    transport = httpx2.ASGITransport(app=shop.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post(f"/{name}/async")).json() == 2


def test_the_fixtures_name_the_databases(db: SQLAlchemy, isolated_databases: Sequence[SQLAlchemy]) -> None:
    assert db is shop.lite
    assert list(isolated_databases) == [shop.lite, shop.postgres, shop.maria]


def test_a_test_has_a_database_of_its_worker(db: SQLAlchemy) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    for name, database in shop.databases.items():
        with database():
            here = database.session.connection().engine.url.database
        assert (f"_{worker}_" in str(here)) == ("SHOP_OWN" in os.environ), name


@NAMES
def test_savepoints_are_no_queries(name: str, assert_queries: Any) -> None:
    database, author = shop.databases[name], shop.authors[name]
    with database(commit_on_exit=True), assert_queries(2):
        author.new(name="a")
        assert author.query.count() == 1
    with TestClient(shop.app) as client, assert_queries(at_most=4):
        client.post(f"/{name}/sync")


def test_too_many_queries_are_listed(assert_queries: Any) -> None:
    with shop.lite(), assert_queries(1):
        shop.authors["lite"].new(name="a")
        shop.authors["lite"].get_all(name="a")


@in_asyncio
async def test_too_many_queries_are_listed_in_async(assert_queries: Any) -> None:
    async with shop.lite():
        async with assert_queries(at_most=2):
            await shop.authors["lite"].aget_all()
        async with assert_queries(at_most=0):
            await shop.authors["lite"].aget_all(name="b")


def _load_one_by_one() -> None:
    with shop.lite():
        for name in ("a", "b"):
            shop.authors["lite"].new(name=name)
    with shop.lite():
        for author in shop.authors["lite"].get_all():
            print(author.books)


@pytest.mark.forbid_nplusone
def test_loading_one_by_one_is_forbidden() -> None:
    _load_one_by_one()


def test_so_is_a_response_that_loads_them() -> None:
    with TestClient(shop.app) as client:
        with shop.lite():
            for name in ("a", "b"):
                shop.authors["lite"].new(name=name)
        assert len(client.get("/authors").json()) == 2


@pytest.mark.forbid_nplusone(threshold=3)
def test_two_are_not_many() -> None:
    _load_one_by_one()


def test_the_setting_forbids_it_everywhere() -> None:
    _load_one_by_one()


@pytest.mark.allow_nplusone
def test_and_a_marker_allows_it_again() -> None:
    _load_one_by_one()
