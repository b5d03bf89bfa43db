"""Secrets stay in: no body, filter, order, cursor, CSV, error or document ever depends on one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_sqlalchemy.rest import CRUDRouter, resource_for
from fastapi_sqlalchemy.rest.fields import looks_secret
from tests.support.client import TestClient

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passwd",
        "hash",
        "hashed_password",
        "password_hash",
        "userPassword",
        "PASSWORD",
        "secret",
        "client_secret",
        "token",
        "reset_token",
        "tokens",
        "api_key",
        "ApiKey",
        "APIKey",
        "apikey",
        "salt",
        "otp",
        "otp_code",
    ],
)
def test_a_name_that_looks_secret_is(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["hashtag", "tokenizer", "salty", "api", "key", "id", "Salted", "optional", "pass"])
def test_a_name_that_does_not_is_not(name: str) -> None:
    assert not looks_secret(name)


@pytest.fixture
def vault(shop: Any) -> Any:
    shop.insert("Author", *({"id": n, "name": f"a{n}", "hashed_password": f"{CANARY}{9 - n}"} for n in range(1, 4)))
    shop.insert("Book", *({"id": n, "title": f"t{n}", "author_id": n, "api_key": f"{CANARY}{n}"} for n in range(1, 4)))
    return shop


READS = [
    "/authors",
    "/authors/1",
    "/authors?include=books",
    "/authors/1?include=books",
    "/books?include=author",
    "/books?include=author.books&sort=-title&limit=1",
    "/authors?count=exact&q=a",
    "/books/-/aggregate?group_by=title&max=title",
    "/openapi.json",
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
def test_no_answer_holds_a_secret(vault: Any, path: str, accept: str) -> None:
    response = vault.client.get(path, headers={"accept": accept})
    text = response.text + str(response.headers)
    for cursor in text.split("cursor=")[1:]:
        part = cursor.split(">")[0].split("&")[0]
        text += base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("latin-1")
    assert CANARY not in text
    assert "hashed_password" not in text
    assert "api_key" not in text


@pytest.mark.parametrize(
    "query",
    [
        "{}=" + CANARY,
        "{}__startswith=canary",
        "{}__isnull=true",
        "{}.eq=x",
        "sort={}",
        "sort=-{}",
        "fields={}",
        "books.{}=x",
        'filter={{"{}":"x"}}',
        'filter={{"not":{{"{}__like":"c%"}}}}',
    ],
)
def test_asking_for_a_secret_is_asking_for_nothing(vault: Any, query: str) -> None:
    def ask(name: str) -> Any:
        response = vault.client.get("/authors?" + query.format(name))
        assert response.status_code == 422
        body = json.dumps(response.json())
        assert CANARY not in body.replace(query.format(name), "")
        return body.replace(name, "NAME")

    assert ask("hashed_password") == ask("hashed_passwort")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/authors"),
        ("patch", "/authors/1"),
        ("put", "/authors/1"),
        ("post", "/authors/-/upsert?on_conflict=name"),
        ("patch", "/authors?name=a1"),
    ],
)
def test_a_secret_cannot_be_written(vault: Any, method: str, path: str) -> None:
    for field in ("hashed_password", "nope", "id"):
        response = vault.client.request(method, path, json={"name": "a1", field: 5})
        assert response.status_code == 422
        assert response.json()["fields"] == [field]
    with vault.db.engine.connect() as connection:
        table = vault.models["Author"].__table__
        stored = [tuple(row) for row in connection.execute(table.select().order_by(table.c.id))]
    assert [row[0] for row in stored] == [1, 2, 3]
    assert f"{CANARY}8" in stored[0]


def test_a_search_does_not_look_into_secrets(vault: Any) -> None:
    assert vault.client.get(f"/authors?q={CANARY}").json() == []


def test_an_error_of_the_database_names_no_value(vault: Any) -> None:
    response = vault.client.post("/authors", json={"name": "a1"})
    assert response.status_code == 409
    for word in ("a1", "INSERT", "author", "sqlite", "postgres", "maria"):
        assert word not in response.text.replace("uq_author_name", "")


def test_a_secret_that_is_named_on_purpose_is_shown(vault: Any) -> None:
    class Login(BaseModel):
        name: str
        hashed_password: str

    class Shown(BaseModel):
        id: int
        hashed_password: str | None

    app = FastAPI()
    author = vault.models["Author"]
    common: dict[str, Any] = {"db": vault.db, "use_async": vault.use_async}
    app.include_router(CRUDRouter(author, prefix="/exposed", expose=["hashed_password"], **common))
    app.include_router(CRUDRouter(author, prefix="/written", create_schema=Login, **common))
    app.include_router(CRUDRouter(author, prefix="/shown", read_schema=Shown, **common))
    client = TestClient(app)
    assert client.get("/exposed/1").json()["hashed_password"] == f"{CANARY}8"
    assert [row["id"] for row in client.get("/exposed?sort=hashed_password").json()] == [3, 2, 1]
    created = client.post("/written", json={"name": "new", "hashed_password": "x"})
    assert created.status_code == 201
    assert "hashed_password" not in created.json()
    assert client.get("/shown/1").json() == {"id": 1, "hashed_password": f"{CANARY}8"}
    assert client.get("/shown?name=a1").status_code == 422
    assert client.get("/written/1").json().keys() == {"id", "name", "born"}
    if vault.use_async:
        # The client above ran each request on an event loop of its own.
        return


def test_an_excluded_field_is_out_of_every_router_that_reaches_it(vault: Any) -> None:
    app = FastAPI()
    registry = type(resource_for(vault.models["Author"]).registry)()
    common: dict[str, Any] = {"db": vault.db, "registry": registry, "use_async": False}
    app.include_router(CRUDRouter(vault.models["Book"], prefix="/books", **common))
    app.include_router(CRUDRouter(vault.models["Author"], prefix="/authors", exclude=["name"], **common))
    client = TestClient(app)
    assert "name" not in client.get("/authors/1").json()
    assert "name" not in client.get("/books/1?include=author").json()["author"]
    assert client.get("/books?author.name=a1").status_code == 422
    assert client.patch("/authors/1", json={"name": "x"}).status_code == 422
