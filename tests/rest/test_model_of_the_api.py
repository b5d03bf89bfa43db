"""The API against a dictionary: whatever the order of requests, both hold the same rows (R28)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fastapi_sqlalchemy import DBSessionMiddleware
from fastapi_sqlalchemy.rest import CRUDRouter
from tests.support.client import TestClient

NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=103), min_size=1, max_size=2)
VALUES = st.one_of(st.none(), st.text(max_size=5).filter(lambda text: "\x00" not in text))
PAIRS = st.tuples(NAMES, st.integers(-3, 3))


def machine(client: Any, empty: Callable[[], None]) -> type[RuleBasedStateMachine]:
    def path(key: tuple[str, int]) -> str:
        return f"/pairs/{key[0]},{key[1]}"

    def row(key: tuple[str, int], value: str | None) -> dict[str, Any]:
        return {"left": key[0], "right": key[1], "value": value}

    class Pairs(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.rows: dict[tuple[str, int], str | None] = {}
            self.tags: dict[tuple[str, int], str] = {}

        @initialize()
        def start(self) -> None:
            empty()

        @rule(key=PAIRS, value=VALUES)
        def create(self, key: tuple[str, int], value: str | None) -> None:
            response = client.post("/pairs", json=row(key, value))
            if key in self.rows:
                assert response.status_code == 409
            else:
                assert response.status_code == 201
                assert response.json() == row(key, value)
                self.rows[key], self.tags[key] = value, response.headers["etag"]

        @rule(keys=st.lists(PAIRS, min_size=1, max_size=4), value=VALUES)
        def create_many(self, keys: list[tuple[str, int]], value: str | None) -> None:
            response = client.post("/pairs", json=[row(key, value) for key in keys])
            if len(set(keys)) < len(keys) or set(keys) & set(self.rows):
                assert response.status_code == 409
            else:
                assert response.json() == [row(key, value) for key in keys]
                self.rows.update(dict.fromkeys(keys, value))

        @rule(keys=st.lists(PAIRS, min_size=1, max_size=4), value=VALUES)
        def upsert(self, keys: list[tuple[str, int]], value: str | None) -> None:
            response = client.post("/pairs/-/upsert", json=[row(key, value) for key in keys])
            assert response.json() == [row(key, value) for key in keys]
            self.rows.update(dict.fromkeys(keys, value))

        @rule(key=PAIRS, value=VALUES, method=st.sampled_from(["patch", "put"]))
        def change(self, key: tuple[str, int], value: str | None, method: str) -> None:
            response = client.request(method, path(key), json={"value": value})
            if key in self.rows:
                assert response.json() == row(key, value)
                self.rows[key], self.tags[key] = value, response.headers["etag"]
            else:
                assert response.status_code == 404

        @rule(key=PAIRS, value=VALUES)
        def change_if_known(self, key: tuple[str, int], value: str | None) -> None:
            tag = self.tags.get(key, '"unknown"')
            known = key in self.rows and client.get(path(key)).headers["etag"] == tag
            response = client.patch(path(key), json={"value": value}, headers={"if-match": tag})
            assert response.status_code == (200 if known else 412 if key in self.rows else 404)
            if known:
                self.rows[key], self.tags[key] = value, response.headers["etag"]

        @rule(key=PAIRS)
        def delete(self, key: tuple[str, int]) -> None:
            response = client.delete(path(key))
            if key in self.rows:
                assert response.json() == row(key, self.rows.pop(key))
            else:
                assert response.status_code == 404

        @rule(right=st.integers(-3, 3), value=VALUES)
        def change_many(self, right: int, value: str | None) -> None:
            hit = [key for key in self.rows if key[1] == right]
            response = client.patch(f"/pairs?right={right}", json={"value": value})
            assert response.json() == {"affected": len(hit)}
            self.rows.update(dict.fromkeys(hit, value))

        @rule(left=NAMES)
        def delete_many(self, left: str) -> None:
            hit = [key for key in self.rows if key[0] >= left]
            response = client.delete("/pairs", params={"left__gte": left})
            assert response.json() == {"affected": len(hit)}
            for key in hit:
                del self.rows[key]

        @invariant()
        def holds_the_same(self) -> None:
            response = client.get("/pairs?limit=500&count=exact")
            found = {(item["left"], item["right"]): item["value"] for item in response.json()}
            assert found == self.rows
            assert response.headers["x-total-count"] == str(len(self.rows))

    return Pairs


@pytest.fixture(params=["alone", "middleware", "commit on exit"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(door: str, shop: Any) -> Iterator[TestClient]:
    if door != "alone" and shop.variant not in ("sqlite sync", "postgresql async"):
        pytest.skip("the middleware is tried once synchronously and once asynchronously")
    app = FastAPI()
    app.include_router(
        CRUDRouter(shop.models["Pair"], db=shop.db, prefix="/pairs", bulk=True, use_async=shop.use_async)
    )
    if door != "alone":
        commit_on_exit = door == "commit on exit"
        app.add_middleware(DBSessionMiddleware, db=shop.db, commit_on_exit=commit_on_exit, create_tables=False)
    with TestClient(app) as client:
        yield client
        if shop.use_async:
            assert client.portal is not None
            client.portal.call(shop.db.adispose)


def test_r28_the_api_holds_what_a_dictionary_holds(
    shop: Any, client: TestClient, door: str, size: Callable[[int, int], int], figure: Callable[..., None]
) -> None:
    examples = size(5, 200)
    run_state_machine_as_test(
        machine(client, shop.empty),
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    figure("R28", variant=f"{shop.variant} {door}", n=examples, failures=0)
