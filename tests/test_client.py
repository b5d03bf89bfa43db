"""The tests' own client answers as Starlette's, for half the processor time."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette import testclient

from tests.support.client import TestClient

app = FastAPI()


@app.api_route("/echo/{name}", methods=["GET", "POST", "HEAD"])
async def echo(request: Request, name: str, response: Response) -> Any:
    response.set_cookie("seen", name)
    body = (await request.body()).decode()
    wanted = ("path", "raw_path", "query_string", "scheme", "client", "server", "root_path")
    return [name, body, *(str(request.scope[key]) for key in wanted), sorted(request.headers.items())]


@app.get("/away")
def away() -> Response:
    return RedirectResponse("/echo/there?from=away")


@app.get("/stream")
def stream() -> Response:
    return StreamingResponse(iter(["a", "", "b"]))


@app.get("/broken")
def broken() -> None:
    raise ZeroDivisionError


@app.get("/broken-stream")
def broken_stream() -> Response:
    return StreamingResponse(1 / number for number in (1, 0))  # type: ignore[arg-type]


@app.get("/broken-afterwards")
def broken_afterwards(tasks: BackgroundTasks) -> str:
    tasks.add_task(broken)
    return "answered"


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers nothing."""


def outcome(kind: Any, application: Any, raises: bool, method: str, path: str, options: dict[str, Any]) -> Any:
    try:
        client = kind(application, raise_server_exceptions=raises)
        answers = [client.request(method, path, **options) for _ in range(2)]
    except Exception as error:
        return type(error)
    return [(answer.status_code, str(answer.url), answer.headers.multi_items(), answer.content) for answer in answers]


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/echo/%C3%BC?a=1&a=%20", {"headers": {"x-name": "value"}}),
        ("POST", "/echo/x", {"json": {"a": "ü"}}),
        ("POST", "/echo/x", {"data": {"a": "1"}, "params": {"b": "2"}}),
        ("HEAD", "/echo/x", {}),
        ("GET", "/away", {}),
        ("GET", "/away", {"follow_redirects": False}),
        ("GET", "/stream", {}),
        ("GET", "/broken", {}),
        ("GET", "/broken-stream", {}),
        ("GET", "/broken-afterwards", {}),
        ("GET", "/nowhere", {}),
        ("GET", "https://other.test:8443/echo/x", {}),
    ],
)
def test_a_request_has_the_same_outcome(method: str, path: str, options: dict[str, Any], raises: bool) -> None:
    of_starlette = outcome(testclient.TestClient, app, raises, method, path, options)
    assert outcome(TestClient, app, raises, method, path, options) == of_starlette


@pytest.mark.parametrize("raises", [True, False])
def test_an_application_that_answers_nothing_is_found_out(raises: bool) -> None:
    of_starlette = outcome(testclient.TestClient, silent, raises, "GET", "/", {})
    assert outcome(TestClient, silent, raises, "GET", "/", {}) == of_starlette
