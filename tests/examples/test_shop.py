"""The shop under a real uvicorn: what belongs to somebody, and stock that two customers want at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.support.uvicorn import serve_app

STAFF = {"authorization": "Bearer staff-token"}


def customer(client: httpx2.Client, name: str) -> dict[str, str]:
    answer = client.post("/users", json={"name": name, "email": f"{name.lower()}@example.com"})
    assert answer.status_code == 201
    return {"authorization": f"Bearer {answer.json()['token']}"}


def test_orders_belong_to_their_owner_and_take_from_the_stock(database_url: str, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": database_url, "STAFF_TOKEN": "staff-token"}
    with serve_app("examples.shop.main:app", tmp_path, environment=environment) as app:
        client = app.client
        lamp = {"title": "Lamp", "price": "12.50", "stock": 5}
        ada, bob = customer(client, "Ada"), customer(client, "Bob")
        assert client.post("/users", json={"name": "Ada", "email": "ada@example.com"}).status_code == 409
        assert client.post("/items", json=lamp).status_code == 401
        assert client.post("/items", json=lamp, headers=ada).status_code == 403
        assert client.post("/items", json=lamp, headers=STAFF).json() == {"id": 1, **lamp}

        order = client.post("/orders", json={"item_id": 1, "quantity": 2}, headers=ada)
        assert order.status_code == 201
        assert order.json()["total"] == "25.00"
        mine = order.headers["location"]
        assert client.get(mine, headers=ada).status_code == 200
        assert client.get(mine, headers=bob).status_code == 404
        assert client.get(mine).status_code == 401
        assert client.get("/orders", headers=bob).json() == []
        assert client.get("/orders", params={"item.title": "Lamp"}, headers=bob).json() == []
        forged = {"item_id": 1, "quantity": 1, "owner_id": 1}
        assert client.post("/orders", json=forged, headers=bob).status_code == 422
        assert client.get("/me", headers=ada).json()["spent"] == "25.00"
        assert "token_hash" not in client.get("/orders", params={"include": "owner"}, headers=ada).text

        def buy_one(_: int) -> int:
            return client.post("/orders", json={"item_id": 1}, headers=bob).status_code

        with ThreadPoolExecutor(8) as customers:
            statuses = Counter(customers.map(buy_one, range(8)))
        assert statuses == {201: 3, 409: 5}
        assert client.get("/items/1").json()["stock"] == 0
        assert len(client.get("/orders", headers=bob).json()) == 3
        assert "Traceback" not in app.log.read_text()
