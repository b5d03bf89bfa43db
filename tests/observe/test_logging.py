"""Logs: one JSON object a line, with the id of the request, and no secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_sqlalchemy.observe.logging import JSONFormatter, RequestIdMiddleware, log_as_json, request_id
from tests.support.client import TestClient

CANARY = "s3cr3t-canary"


@pytest.fixture
def lines() -> Iterator[Any]:
    """A logger of its own; call what is yielded to read its lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_line_is_one_object_whatever_it_says(lines: Any) -> None:
    logging.getLogger("shop").info("two\nlines of %s", "żółw", extra={"user_id": 5, "odd": object})
    try:
        raise ValueError("broken\nhere")
    except ValueError:
        logging.getLogger("shop").exception("failed")
    first, second = lines()
    assert (first["message"], first["level"], first["logger"]) == ("two\nlines of żółw", "INFO", "shop")
    assert first["user_id"] == 5
    assert first["time"].endswith("+00:00")
    assert "request_id" not in first
    assert second["error"].endswith("ValueError: broken\nhere")


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        (f"cannot reach postgresql://app:{CANARY}@db/shop", {}),
        (f"password={CANARY} for app", {}),
        (f'{{"api_key": "{CANARY}", "a": 1}}', {}),
        (f"Authorization: Bearer {CANARY}", {}),
        (f"GET /login?token={CANARY}&x=1", {}),
        ("hello", {"password": CANARY}),
        ("hello", {"user": {"name": "x", "password_hash": CANARY, "urls": [f"mysql://u:{CANARY}@h/d"]}}),
    ],
)
def test_no_secret_is_written(lines: Any, message: str, extra: dict[str, Any]) -> None:
    logging.getLogger("shop").warning(message, extra=extra)
    try:
        raise RuntimeError(message)
    except RuntimeError:
        logging.getLogger("shop").exception("failed", extra=extra)
    written = lines()
    assert len(written) == 2
    assert CANARY not in json.dumps(written)
    assert "***" in json.dumps(written[0])


def test_every_line_of_a_request_has_its_id_and_the_response_too(lines: Any) -> None:
    app = FastAPI()

    @app.get("/{name}")
    def hello(name: str) -> str | None:
        logging.getLogger("shop").info("hello")
        return request_id.get()

    app.add_middleware(RequestIdMiddleware)
    with TestClient(app) as client:
        given = client.get("/a", headers={"X-Request-ID": "abc-123"})
        made = client.get("/b")
        hostile = client.get("/c", headers={"X-Request-ID": 'x" onload="1' + "y" * 200})
    assert given.headers["x-request-id"] == given.json() == "abc-123"
    assert len(made.headers["x-request-id"]) == 32
    assert hostile.headers["x-request-id"] == hostile.json() != ""
    assert "onload" not in hostile.headers["x-request-id"]
    assert [line["request_id"] for line in lines()] == [r.headers["x-request-id"] for r in (given, made, hostile)]
    assert request_id.get() is None


def test_the_root_logger_writes_json() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        log_as_json(logging.WARNING, stream)
        logging.getLogger("uvicorn.error").warning("served")
        logging.getLogger("anything").info("not told")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["served"]
