"""The document says what the routes do: it is valid, complete, and what is sent by it is answered by it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.rest import CRUDRouter, reflect
from tests.rest.conftest import Shop, declare
from tests.support.client import TestClient
from tests.support.openapi import validate
from tests.support.samples import sample, sqlite_copy

schemathesis = pytest.importorskip("schemathesis")

OPERATIONS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    shop = Shop(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/shop.db", "sync")
    yield shop.app.openapi()
    shop.db.dispose()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, item[method])
        for path, item in document["paths"].items()
        for method in OPERATIONS
        if method in item
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert len(names) > 50
    assert set(names.values()) == {1}


def test_every_error_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        errors = {status: item for status, item in operation["responses"].items() if int(status) >= 400}
        assert {"422", "503"} <= set(errors), (path, method)
        for item in errors.values():
            schema = item["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ProblemDetails"}
            assert list(item["content"]) == ["application/problem+json"]
    required = document["components"]["schemas"]["ProblemDetails"]["required"]
    assert {"type", "title", "status", "detail", "code", "fields"} <= set(required)


def test_filters_are_declared_parameter_by_parameter(document: dict[str, Any]) -> None:
    parameters = {item["name"]: item for item in document["paths"]["/books"]["get"]["parameters"]}
    assert {"title", "title__icontains", "price__gte", "pages__between", "sort", "limit", "cursor"} <= set(parameters)
    assert {"fields", "include", "q", "filter", "count", "offset"} <= set(parameters)
    assert not any("api_key" in name for name in parameters)
    assert parameters["limit"]["schema"]["maximum"] == 500


def test_schemas_tell_types_bounds_and_defaults(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    title = schemas["BookCreate"]["properties"]["title"]
    assert title["maxLength"] == 80
    assert schemas["BookCreate"]["required"] == ["title"]
    assert schemas["BookCreate"]["properties"]["pages"]["default"] == 0
    assert schemas["BookCreate"]["additionalProperties"] is False
    assert set(schemas["Book"]["properties"]) == {"id", "title", "author_id", "price", "pages"}
    assert schemas["Book"]["required"] == ["id", "title", "author_id", "price", "pages"]
    assert "required" not in schemas["BookUpdate"]
    assert set(schemas["BookUpdate"]["properties"]) == {"title", "author_id", "price", "pages"}
    assert set(schemas["PairUpdate"]["properties"]) == {"value"}
    assert {"author", "tags"} <= set(schemas["BookSelection"]["properties"])


def test_a_router_may_be_made_before_the_models_it_relates_to() -> None:
    db = SQLAlchemy("sqlite://")
    base: Any = db.Base

    class Early(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        late_id: Mapped[int] = mapped_column(__import__("sqlalchemy").ForeignKey("late.id"))
        late = relationship("Late")

    app = FastAPI()
    app.include_router(CRUDRouter(Early, db=db, use_async=False))

    class Late(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    db.create_all()
    assert "late" in app.openapi()["components"]["schemas"]["EarlySelection"]["properties"]
    assert TestClient(app).get("/early?include=late").json() == []
    db.dispose()


@contextmanager
def described(db: SQLAlchemy, routers: Iterable[Any]) -> Iterator[Any]:
    app = FastAPI(generate_unique_id_function=lambda route: f"{min(route.methods)} {route.path}")
    for router in routers:
        app.include_router(router)
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    db.dispose()


@pytest.fixture(scope="module")
def of_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of five models with a few rows."""
    db = SQLAlchemy(f"sqlite:///{tmp_path_factory.mktemp('schemathesis')}/shop.db")
    models = declare(db)
    db.create_all()
    with db.engine.begin() as connection:
        for name in ("Author", "Tag"):
            rows = [{"id": n, "name": f"{name} {n}"} for n in range(1, 4)]
            connection.execute(models[name].__table__.insert(), rows)
    names = ("Author", "Book", "Tag", "Pair", "Thing")
    with described(db, [CRUDRouter(models[name], db=db, aggregates=True, use_async=False) for name in names]) as found:
        yield found


@pytest.fixture(scope="module")
def of_chinook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of the Chinook database, with writes."""
    file = "chinook/Chinook_Sqlite.sqlite"
    sample(file)
    db = SQLAlchemy(f"sqlite:///{sqlite_copy(file, tmp_path_factory.mktemp('chinook'))}")
    with described(db, reflect(db, write=True).routers()) as found:
        yield found


@pytest.fixture
def collected_on_demand() -> Iterator[None]:
    """The garbage of a thousand cases is collected when the test asks for it, and strategies are not looked through."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_on_demand")
@pytest.mark.parametrize(("name", "examples"), [("of_models", 35), ("of_chinook", 8)])
def test_r27_what_the_document_allows_is_answered_as_it_says(
    name: str, examples: int, request: pytest.FixtureRequest, size: Callable[[int, int], int], figure: Any
) -> None:
    sent = 0
    for found in request.getfixturevalue(name).get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=size(examples, 50 * examples),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            nonlocal sent
            sent += 1
            # A body may fit the document and still break a CHECK or name a row that is not there.
            case.call_and_validate(excluded_checks=[schemathesis.checks.CHECKS.get_one("positive_data_acceptance")])

        check()
        gc.collect(0)
    figure("R27", variant=name, n=sent, failures=0)
