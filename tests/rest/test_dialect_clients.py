"""What react-admin's and Refine's data providers have sent, sent again: the answers hold what these clients read.

``captured.ndjson`` was written by the real packages (``make clients``), in the order of their requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_sqlalchemy import SQLAlchemy
from tests.rest.clients.app import ORIGIN, build, fill
from tests.support.caches import empty_caches
from tests.support.client import TestClient

CAPTURED = [json.loads(line) for line in (Path(__file__).parent / "clients/captured.ndjson").read_text().splitlines()]


VARIANTS = ["sqlite sync", "sqlite async", "postgresql async", "mariadb sync"]


@pytest.fixture(scope="module", params=VARIANTS)
def newsroom(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[tuple[TestClient, SQLAlchemy]]:
    """A client of the application, and its database."""
    name, mode = request.param.split()
    if name not in databases:
        pytest.skip(f"no {name} server takes part")
    db = SQLAlchemy(databases[name])
    app = build(db, use_async=mode == "async")
    with TestClient(app) as client:
        yield client, db
        assert client.portal is not None
        client.portal.call(db.adispose)
    db.drop_all(confirmed=True)
    empty_caches()
    db.dispose()


def test_every_captured_request_is_answered_as_the_client_read_it(newsroom: Any) -> None:
    client, db = newsroom
    last = None
    for sent in CAPTURED:
        if sent["client"] != last:
            fill(db)
        last = sent["client"]
        place = f"{sent['client']} {sent['call']}: {sent['method']} {sent['path']} {sent.get('body', '')}"
        response = client.request(
            sent["method"], sent["path"], headers={"Origin": ORIGIN, **sent["headers"]}, content=sent.get("body")
        )
        assert response.status_code == sent["status"], f"{place}: {response.text}"
        assert {name: response.headers[name] for name in sent["told"]} == sent["told"], place
        assert response.headers["access-control-allow-origin"] == ORIGIN
        found = response.json()
        if isinstance(sent["answer"], list):
            exposed = response.headers["access-control-expose-headers"].lower().split(", ")
            assert {"content-range", "x-total-count"} <= set(exposed), place
            assert [row["id"] for row in found] == sent["answer"], place
        else:
            assert found == sent["answer"], place


def test_the_capture_has_every_method_of_every_client() -> None:
    methods = {"getList", "getOne", "getMany", "create", "update"}
    admin = {*methods, "getManyReference", "updateMany", "delete", "deleteMany"}
    wanted = {
        "ra-data-simple-rest": admin,
        "ra-data-json-server": admin,
        "@refinedev/simple-rest": {*methods, "deleteOne"},
    }
    found: dict[str, set[str]] = {}
    for sent in CAPTURED:
        found.setdefault(sent["client"], set()).add(sent["call"])
    assert found == wanted


def test_a_browser_may_send_the_range_that_the_clients_send(newsroom: Any) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    response = newsroom[0].options("/posts", headers=asked)
    assert response.status_code == 200
    assert "range" in response.headers["access-control-allow-headers"]
