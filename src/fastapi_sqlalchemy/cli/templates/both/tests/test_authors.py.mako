"""Authors: the generated routes."""

from fastapi.testclient import TestClient


def test_an_author_is_made_changed_and_deleted(client: TestClient) -> None:
    made = client.post("/authors", json={"name": "Ada"})
    assert made.status_code == 201
    path = f"/authors/{made.json()['id']}"
    assert client.patch(path, json={"name": "Ada Lovelace"}).json()["name"] == "Ada Lovelace"
    assert client.delete(path).status_code == 200
    assert client.get(path).status_code == 404


def test_a_name_is_taken_once(client: TestClient) -> None:
    assert client.post("/authors", json={"name": "Ada"}).status_code == 201
    again = client.post("/authors", json={"name": "Ada"})
    assert again.status_code == 409
    assert again.json()["fields"] == ["name"]


def test_authors_are_filtered_and_sorted(client: TestClient) -> None:
    for name in ("Ada", "Grace", "Barbara"):
        client.post("/authors", json={"name": name})
    found = client.get("/authors", params={"name__contains": "ra", "sort": "-name"}).json()
    assert [author["name"] for author in found] == ["Grace", "Barbara"]
