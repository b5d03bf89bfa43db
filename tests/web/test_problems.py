"""An application answers database errors with problem+json, leaves its own handlers alone, and shows no secret."""

import json
import socket
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from fastapi_sqlalchemy import SQLAlchemy
from fastapi_sqlalchemy.web.problems import (
    Problem,
    ProblemError,
    ProblemResponse,
    database_error_handler,
    handle_database_errors,
    http_problem,
    install_problem_handlers,
    problem_responses,
)
from tests.support.client import TestClient

CANARY = "canary"
OTHER = sa.MetaData()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class NewDocument(BaseModel):
    title: str = Field(max_length=10)
    pages: int = 0


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sqlite_url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def app(engine: sa.Engine) -> FastAPI:
    app = FastAPI()

    @app.post("/documents", responses=problem_responses(409, 422, 503))
    def create(document: NewDocument) -> dict[str, int]:
        with Session(engine) as session, session.begin():
            row = Document(title=document.title)
            session.add(row)
            session.flush()
            return {"id": row.id}

    @app.put("/documents")
    def replace_a_stale_row() -> None:
        with Session(engine) as stale, Session(engine) as other:
            row = stale.scalars(sa.select(Document)).one()
            stale.rollback()
            with other.begin():
                other.execute(sa.update(Document).values(version=99))
            row.title = "late"
            sa.orm.attributes.set_committed_value(row, "version", 1)
            stale.commit()

    @app.get("/broken")
    def broken() -> None:
        with Session(engine) as session:
            session.execute(sa.text("SELECT canary FROM nowhere"))

    @app.get("/teapot")
    def teapot(status: int) -> None:
        raise HTTPException(status, "Short and stout", {"X-Tea": "Earl Grey"})

    @app.get("/problem")
    def problem() -> None:
        raise ProblemError(Problem(status=409, code="sold_out", detail="None is left.", fields=["title"]))

    return app


def test_an_application_answers_with_problem_json(app: FastAPI) -> None:
    install_problem_handlers(app, Base.metadata)
    with TestClient(app) as client:
        assert client.post("/documents", json={"title": CANARY}).status_code == 200
        response = client.post("/documents", json={"title": CANARY})
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "A row with the same unique value exists already.",
        "code": "unique_violation",
        "fields": ["title"],
    }


def test_an_error_that_is_not_known_goes_on_to_the_server(app: FastAPI) -> None:
    install_problem_handlers(app, http_errors=True)
    with TestClient(app) as client, pytest.raises(sa.exc.OperationalError):
        client.get("/broken")
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/broken")
    assert response.status_code == 500
    assert CANARY not in response.text


def test_handlers_of_the_application_are_left_alone(app: FastAPI) -> None:
    @app.exception_handler(sa.exc.IntegrityError)
    async def mine(_request: Request, _exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 418)

    @app.exception_handler(HTTPException)
    async def my_http(_request: Request, _exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("my http", 418)

    install_problem_handlers(app, http_errors=True)
    with TestClient(app) as client:
        client.post("/documents", json={"title": "a"})
        assert client.post("/documents", json={"title": "a"}).text == "mine"
        assert client.get("/teapot", params={"status": 404}).text == "my http"
        assert client.get("/absent").json()["code"] == "not_found"


def test_a_stale_row_is_a_conflict_and_under_if_match_a_failed_precondition(app: FastAPI) -> None:
    install_problem_handlers(app)
    with TestClient(app) as client:
        client.post("/documents", json={"title": "a"})
        plain = client.put("/documents")
        conditional = client.put("/documents", headers={"If-Match": '"1"'})
    assert (plain.status_code, plain.json()["code"], plain.headers["retry-after"]) == (409, "conflict", "1")
    assert (conditional.status_code, conditional.json()["code"]) == (412, "precondition_failed")
    assert "retry-after" not in conditional.headers


def test_http_errors_become_problems_when_asked_for(app: FastAPI) -> None:
    install_problem_handlers(app, http_errors=True)
    with TestClient(app) as client:
        teapot = client.get("/teapot", params={"status": 404})
        absent = client.get("/nowhere")
        wrong = client.delete("/documents")
        empty = client.get("/teapot", params={"status": 204})
        invalid = client.post("/documents", json={"title": CANARY * 9, "pages": "canary"})
        malformed = client.post("/documents", content=b'{"title": ', headers={"Content-Type": "application/json"})
        own = client.get("/problem")
    assert (teapot.status_code, teapot.headers["x-tea"], teapot.json()["detail"]) == (
        404,
        "Earl Grey",
        "Short and stout",
    )
    assert (absent.status_code, absent.json()["code"]) == (404, "not_found")
    assert wrong.status_code == 405
    assert "POST" in wrong.headers["allow"]
    assert wrong.json()["code"] == "method_not_allowed"
    assert (empty.status_code, empty.content) == (204, b"")
    assert (invalid.status_code, invalid.json()["code"]) == (422, "validation_error")
    assert invalid.json()["fields"] == ["title", "pages"]
    assert [set(error) for error in invalid.json()["errors"]] == [{"loc", "msg", "type"}] * 2
    assert CANARY not in invalid.text
    assert (malformed.status_code, malformed.json()["errors"][0]["type"]) == (422, "json_invalid")
    assert (own.status_code, own.json()["code"], own.json()["fields"]) == (409, "sold_out", ["title"])
    for response in (teapot, absent, wrong, invalid, malformed, own):
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "code", "fields"} <= response.json().keys()


def test_http_errors_are_left_alone_by_default(app: FastAPI) -> None:
    install_problem_handlers(app)
    with TestClient(app) as client:
        assert client.get("/absent").json() == {"detail": "Not Found"}
        assert client.get("/problem").json() == {"detail": "None is left."}


def test_the_handler_can_be_registered_by_hand(app: FastAPI) -> None:
    app.add_exception_handler(sa.exc.SQLAlchemyError, database_error_handler)
    with TestClient(app) as client:
        client.post("/documents", json={"title": "a"})
        assert client.post("/documents", json={"title": "a"}).json()["code"] == "unique_violation"


def test_a_dependency_can_bring_the_handler_with_it(app: FastAPI, engine: sa.Engine) -> None:
    @app.post("/twice")
    async def twice(request: Request) -> None:
        handle_database_errors(request.scope, Base.metadata)
        with Session(engine) as session:
            session.add_all([Document(title="a"), Document(title="a")])
            session.commit()

    with TestClient(app) as client:
        assert client.post("/twice").json()["fields"] == ["title"]


def test_handlers_that_would_come_too_late_are_refused(app: FastAPI) -> None:
    with TestClient(app) as client:
        client.get("/absent")
        with pytest.raises(RuntimeError, match="install_problem_handlers"):
            install_problem_handlers(app)


def test_installing_twice_adds_the_metadata_of_another_database(app: FastAPI) -> None:
    install_problem_handlers(app, OTHER)
    install_problem_handlers(app, Base.metadata)
    handlers = {id(handler) for handler in app.exception_handlers.values() if hasattr(handler, "metadata")}
    assert len(handlers) == 1
    assert app.exception_handlers[sa.exc.SQLAlchemyError].metadata == [OTHER, Base.metadata]  # type: ignore[attr-defined]


def test_every_documented_status_has_the_problem_schema(app: FastAPI) -> None:
    document = app.openapi()
    responses = document["paths"]["/documents"]["post"]["responses"]
    assert {"200", "409", "422", "503"} == set(responses)
    for status in ("409", "422", "503"):
        assert list(responses[status]["content"]) == ["application/problem+json"]
        schema = responses[status]["content"]["application/problem+json"]["schema"]
        assert schema["required"] == ["type", "title", "status", "detail", "code", "fields"]
    assert "Retry-After" in responses["503"]["headers"]
    assert "$defs" not in json.dumps(document)


def test_a_body_is_json_whatever_the_client_sent() -> None:
    error = {"loc": ("body", "a\ud800b" * 200, 3), "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
    problem = http_problem(RequestValidationError([{**error, "input": CANARY, "ctx": {"x": CANARY}}] * 500))
    body = ProblemResponse(problem).body
    assert json.loads(body)["status"] == 422
    assert CANARY.encode() not in body
    assert len(body) < 100_000


@pytest.fixture(params=["as given", "asyncpg"])
def served(request: pytest.FixtureRequest, database_url: str) -> Iterator[tuple[SQLAlchemy, Any]]:
    """A database with a table that has a unique column."""
    if request.param == "asyncpg":
        if not database_url.startswith("postgresql"):
            pytest.skip("a driver for PostgreSQL")
        database_url = database_url.replace("postgresql", "postgresql+asyncpg")
    db = SQLAlchemy(database_url)

    class Ticket(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        seat: Mapped[str] = mapped_column(sa.String(20), unique=True)

    db.create_all()
    yield db, Ticket
    db.dispose()


@pytest.mark.parametrize("door", ["middleware", "dependency"])
def test_the_doors_answer_a_broken_constraint_with_its_fields(served: tuple[SQLAlchemy, Any], door: str) -> None:
    db, ticket = served
    app = FastAPI(lifespan=db.lifespan if door == "middleware" else None)

    @app.post("/tickets")
    async def book(session: Annotated[AsyncSession, Depends(db.get_async_session)]) -> None:
        session.add_all([ticket(seat="canary"), ticket(seat="canary")])
        await session.commit()

    with TestClient(app) as client:
        response = client.post("/tickets")
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["code"], body["constraint"], body["fields"]) == ("unique_violation", "uq_ticket_seat", ["seat"])


@pytest.mark.parametrize("url", ["postgresql+asyncpg://postgres@127.0.0.1:{}/x", "mysql://root@127.0.0.1:{}/x"])
def test_a_dependency_answers_for_a_server_that_is_down(url: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    db = SQLAlchemy(url.format(port))
    app = FastAPI()

    @app.get("/")
    async def read(session: Annotated[AsyncSession, Depends(db.get_async_session)]) -> None:
        await session.execute(sa.text("SELECT 1"))

    with TestClient(app) as client:
        response = client.get("/")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response.headers["retry-after"] == "1"
