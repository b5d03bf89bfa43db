"""``fastapi-sqlalchemy routes`` tells what an application answers, and where each route has its session from."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column
from starlette.applications import Starlette

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, Session, SQLAlchemy
from fastapi_sqlalchemy.cli import run
from fastapi_sqlalchemy.cli.routes import RouteLine, routes_of
from fastapi_sqlalchemy.rest import CRUDRouter

db = SQLAlchemy("sqlite://")


class Parcel(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]


class Shown(BaseModel):
    id: int


login = OAuth2PasswordBearer(tokenUrl="token", scheme_name="Login")


def caller(token: Annotated[str, Depends(login)]) -> str:
    return token


def own_parcels(name: Annotated[str, Depends(caller)]) -> Any:
    return Parcel.owner == name


def plain() -> None: ...


def with_session(session: Annotated[Session, Depends(db.get_session)]) -> Shown:
    return Shown(id=1)


def with_nested_session(found: Annotated[Any, Depends(with_session)]) -> None: ...


async def with_async_session(session: Annotated[AsyncSession, Depends(db.get_async_session)]) -> list[Shown]:
    return []


def reading(session: Annotated[Session, Depends(db.get_read_only_session)]) -> None: ...


def with_key(
    key: Annotated[str, Depends(APIKeyHeader(name="X-Key"))], name: Annotated[str, Depends(caller)]
) -> None: ...


async def socket(websocket: WebSocket) -> None: ...


def line_of(app: FastAPI, path: str, **options: Any) -> RouteLine:
    (found,) = [line for line in routes_of(app, **options) if line.path == path]
    return found


def one_route(endpoint: Callable[..., Any], **options: Any) -> FastAPI:
    app = FastAPI(**options)
    app.get("/it")(endpoint)
    return app


@pytest.mark.parametrize(
    ("endpoint", "session"),
    [
        (plain, None),
        (with_session, "dependency"),
        (with_nested_session, "dependency"),
        (with_async_session, "dependency, async"),
        (reading, "dependency, read-only"),
    ],
)
def test_a_session_dependency_is_told_however_deep_it_stands(endpoint: Any, session: str | None) -> None:
    assert line_of(one_route(endpoint), "/it").session == session


def test_without_a_dependency_the_door_is_the_middleware_or_the_lifespan() -> None:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncGenerator[None]:
        async with db.lifespan(app):
            yield

    @asynccontextmanager
    async def other(app: FastAPI) -> AsyncGenerator[None]:
        yield

    assert line_of(one_route(plain, lifespan=db.lifespan), "/it").session == "lifespan"
    assert line_of(one_route(plain, lifespan=own), "/it").session == "lifespan"
    assert line_of(one_route(plain, lifespan=other), "/it").session is None
    joined = one_route(plain, lifespan=db.lifespan)
    joined.include_router(APIRouter())
    assert line_of(joined, "/it").session == "lifespan"
    around = one_route(plain)
    around.add_middleware(DBSessionMiddleware, db=db)
    assert line_of(around, "/it").session == "middleware"


def test_a_generated_router_is_told_with_its_login_and_owner_and_head_stands_with_get() -> None:
    app = FastAPI()
    app.include_router(CRUDRouter(Parcel, db=db, scope_query=own_parcels), prefix="/v1")
    lines = {(line.path, line.methods): line for line in routes_of(app)}
    assert {("/v1/parcel", ("GET", "HEAD")), ("/v1/parcel", ("POST",)), ("/v1/parcel/{pk}", ("DELETE",))} <= set(lines)
    assert {line.session for line in lines.values()} == {"CRUDRouter"}
    assert {line.login for line in lines.values()} == {("Login",)}
    assert {line.owner for line in lines.values()} == {f"{__name__}.own_parcels"}
    assert not any("method_not_allowed" in line.endpoint for line in routes_of(app, everything=True))


def test_the_dependencies_of_an_included_router_count() -> None:
    router = APIRouter()
    router.get("/it")(plain)
    app = FastAPI()
    app.include_router(router, prefix="/in", dependencies=[Depends(login), Depends(db.get_session)])
    assert line_of(app, "/in/it") == RouteLine(
        ("GET",), "/in/it", f"{__name__}.plain", "dependency", None, ("Login",), None
    )


def test_what_answers_and_who_may_ask_is_told() -> None:
    app = FastAPI()
    app.get("/one")(with_session)
    app.get("/many")(with_async_session)
    app.get("/key")(with_key)
    assert line_of(app, "/one").response_model == f"{__name__}.Shown"
    assert line_of(app, "/many").response_model == f"list[{__name__}.Shown]"
    assert line_of(app, "/key").login == ("APIKeyHeader", "Login")


def test_mounted_applications_and_websockets_are_told_and_the_pages_of_the_documentation_with_all() -> None:
    app, inner = FastAPI(), FastAPI()
    inner.get("/it")(with_session)
    app.mount("/inner", inner)
    app.mount("/foreign", Starlette())
    app.websocket("/socket")(socket)
    assert line_of(app, "/inner/it").session == "dependency"
    assert line_of(app, "/foreign").methods == ("MOUNT",)
    assert line_of(app, "/socket").methods == ("WEBSOCKET",)
    assert all(line.path != "/docs" for line in routes_of(app))
    assert line_of(app, "/docs", everything=True).methods == ("GET", "HEAD")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application of its own name, so that no other test has it imported."""
    name = f"parcels_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        "from fastapi import FastAPI\n\n\ndef it() -> None: ...\n\n\ndef make() -> FastAPI:\n    app = FastAPI()\n"
        "    app.get('/it')(it)\n    return app\n\n\napp = make()\nother = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / f"{name}.py"


def paths(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["routes", "--json", *arguments]) == 0
    return [line["path"] for line in json.loads(capsys.readouterr().out)["routes"]]


def test_the_application_is_found_by_its_name_its_maker_or_pyproject(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paths(capsys, f"{project.stem}:app") == ["/it"]
    assert paths(capsys, f"{project.stem}:make") == ["/it"]
    (project.parent / "pyproject.toml").write_text(f'[tool.fastapi]\nentrypoint = "{project.stem}:app"\n')
    assert paths(capsys) == ["/it"]
    (project.parent / "pyproject.toml").write_text(f'[tool.fastapi-sqlalchemy]\napp = "{project.stem}:make"\n')
    assert paths(capsys) == ["/it"]
    assert run(["routes"]) == 0
    assert f"GET      /it   -        -               -      -      {project.stem}.it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("{stem}:other", "is no FastAPI application"),
        ("{stem}:missing", "has no missing"),
        ("nowhere:app", "There is no module nowhere"),
        ("{stem}", "does not say where to look"),
        ("broken:app", "The module broken cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_application_is_one_line_and_2(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    (project.parent / "broken.py").write_text("1 / 0\n")
    assert run(["routes", name.format(stem=project.stem)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


def test_a_folder_without_an_application_is_one_line_and_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["routes"]) == 2
    assert "No application was found" in capsys.readouterr().err
