"""What the admin refuses and hides: forged forms, foreign assets, leaks, formulas; and what it writes down."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import re
import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import MissingExtraError, SQLAlchemy
from fastapi_sqlalchemy.admin import Admin
from fastapi_sqlalchemy.admin.guard import CSRF_COOKIE, MAX_BODY, SESSION_COOKIE
from fastapi_sqlalchemy.admin.store import changes
from tests.admin.apps.library import CANARY, PASSWORD
from tests.admin.conftest import Desk, everybody
from tests.support.client import TestClient

Make = Callable[..., Any]


def book_title(desk: Desk) -> str:
    with desk.library.db():
        return str(desk.library.db.session.get(desk.library.Book, 1).title)


def test_a_forged_form_is_refused(login_desk: Desk, figure: Callable[..., None]) -> None:
    form = {**login_desk.form("/book/edit?pk=1"), "title": "forged"}
    token = str(login_desk.client.cookies.get(CSRF_COOKIE))
    session = str(login_desk.client.cookies.get(SESSION_COOKIE))
    planted = "planted." + "0" * 64
    tries: list[dict[str, Any]] = [
        {"data": form},
        {"data": {**form, "csrftoken": ""}},
        {"data": {**form, "csrftoken": token[:-1] + "x"}},
        {"json": {**form, "csrftoken": token}},
        {"content": b"title=forged", "headers": {"Content-Type": "text/plain"}},
        {"data": {**form, "csrftoken": token}, "headers": {"Sec-Fetch-Site": "cross-site"}},
        {"data": {**form, "csrftoken": token}, "headers": {"Sec-Fetch-Site": "same-site"}},
    ]
    for given in tries:
        assert login_desk.client.post("/admin/book/edit?pk=1", **given).status_code == 403
    cookies = {SESSION_COOKIE: session, CSRF_COOKIE: planted}
    with TestClient(login_desk.client.app, base_url="https://library.test", cookies=cookies) as other:
        assert other.post("/admin/book/edit?pk=1", data={**form, "csrftoken": planted}).status_code == 403
    # a token of another session, signed by the same key
    login_desk.log_in()
    answer = login_desk.client.post("/admin/book/edit?pk=1", data={**form, "csrftoken": token})
    assert answer.status_code == 403
    assert book_title(login_desk) == "Book 0"
    figure("S8", variant="admin: forged forms", n=len(tries) + 2, failures=0)


def test_every_page_has_a_policy_that_its_own_markup_keeps(login_desk: Desk) -> None:
    for path in (
        "/",
        "/login",
        "/book/list?q=1&filter=id__gt=1",
        "/book/create",
        "/book/edit?pk=1",
        "/book/detail?pk=1",
        "/_changes",
        "/nothing/list",
    ):
        if path == "/login":
            login_desk.post("/logout")
        answer = login_desk.get(path)
        if path == "/login":
            login_desk.log_in()
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        opened = re.findall(r"<(?:script|style)[\s>][^>]*>?", answer.text)
        assert opened
        assert all(f'nonce="{nonce}"' in tag for tag in opened)
        assert not re.findall(r"<[^>]*\s(?:on[a-z]+|style)=", answer.text)
        for address in re.findall(r'(?:src|href)="(https?://[^"]+)"', answer.text):
            assert address.startswith("https://library.test/")
        assert "@import" not in answer.text
    assert (
        login_desk.get("/").headers["content-security-policy"] != login_desk.get("/").headers["content-security-policy"]
    )


def test_a_form_that_is_too_long_is_refused(desk: Desk) -> None:
    assert desk.post("/book/create", {"title": "x" * MAX_BODY, "author": "1"}).status_code == 413
    assert desk.post("/book/create", {f"f{number}": "" for number in range(3000)}).status_code in (400, 413, 422)


def test_nothing_goes_out_and_nothing_leaks(
    login_desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, figure: Callable[..., None]
) -> None:
    called: list[Any] = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: (called.append(address), connect(self, address))
    )
    caplog.set_level(logging.DEBUG)
    bodies: list[str] = []
    for path in ("/", "/book/list", "/book/detail?pk=1", "/book/edit?pk=1", "/reader/list", "/_changes", "/no/list"):
        bodies.append(login_desk.get(path).text)
    login_desk.log_in(password="wrong guess 4711")
    login_desk.log_in()
    form = login_desk.form("/reader/edit?pk=1")
    bodies.append(login_desk.post("/reader/edit?pk=1", {**form, "email": "alan@example.org"}).text)
    bodies.append(login_desk.act("/_api/author/row-action?name=delete&pk=1").text)
    bodies.append(login_desk.post("/_api/reader/action?name=export", {"scope": "page", "format": "json"}).text)
    session = str(login_desk.client.cookies.get(SESSION_COOKIE))
    logs = "\n".join(record.getMessage() + (record.exc_text or "") for record in caplog.records)
    for text in (*bodies, logs):
        for secret in (CANARY, PASSWORD, "wrong guess 4711", "argon2", session):
            assert secret not in text
    for body in bodies:
        for leak in ("Traceback", "sqlalchemy.exc", "SELECT ", "INSERT INTO", "UNIQUE constraint failed"):
            assert leak not in body
    assert called == []
    figure("S7", variant="admin: outbound calls", n=len(bodies), failures=len(called))
    figure("S8", variant="admin: canaries in bodies and logs", n=len(bodies) + 1, failures=0)


def test_an_export_has_every_row_asked_for_and_no_formula(desk: Desk) -> None:
    with desk.library.db(commit_on_exit=True):
        for number, text in enumerate(("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\uff1d1", 'a "quoted", text'), 1):
            desk.library.db.session.get(desk.library.Author, number).name = text
    answer = desk.post(
        "/_api/author/action?name=export&all=1", {"scope": "all", "format": "csv", "filename": 'a"b\r\nc'}
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "\n" not in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["name"][:2] for row in rows[:6]] == ["'=", "'+", "'-", "'@", "'\t", "'\uff1d"]
    assert rows[6]["name"] == 'a "quoted", text'
    assert len(rows) == 20
    chosen = desk.post("/_api/author/action?name=export&pks=1&pks=3", {"scope": "selected", "format": "json"}).json()
    assert [item["id"] for item in chosen] == [1, 3]
    page = desk.post(
        "/_api/book/action?name=export&_list_query=%3Fpage_size%3D10%26sort%3Did__desc%26q%3DBook",
        {"scope": "page", "format": "csv"},
    )
    assert [row["id"] for row in csv.DictReader(io.StringIO(page.text))] == [
        str(number) for number in range(60, 50, -1)
    ]


def test_a_file_is_written_beside_the_event_loop(sqlite_url: str, tmp_path: Path) -> None:
    places: list[bool] = []

    class Watched(Decimal):
        def __format__(self, form: str, /) -> str:
            places.append(asyncio._get_running_loop() is not None)
            return super().__format__(form)

    class Price(sa.TypeDecorator[Decimal]):
        impl = sa.Numeric(8, 2)
        cache_ok = True

        def process_result_value(self, value: Any, dialect: Any) -> Any:
            return Watched(value)

    db = SQLAlchemy(sqlite_url)
    prices = sa.Table("price", db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("amount", Price()))
    db.create_all()
    with db.engine.begin() as connection:
        connection.execute(sa.insert(prices), [{"amount": Decimal(number)} for number in range(1, 2101)])
    app = FastAPI()
    admin = Admin(app, db=db, store=str(tmp_path / "admin.db"), auth=everybody)
    with TestClient(app, base_url="https://library.test") as client:
        client.get("/admin/price/list")
        places.clear()
        token = client.cookies.get("starlette_admin_csrftoken") or ""
        answer = client.post(
            "/admin/_api/price/action?name=export&all=1",
            data={"csrftoken": token, "scope": "all", "format": "csv"},
        )
    assert answer.text.count("\n") == 2101
    assert len(places) >= 2100
    assert not any(places)
    db.dispose()
    admin.store.db.dispose()


def test_every_change_is_written_down_without_secrets(login_desk: Desk) -> None:
    form = login_desk.form("/reader/edit?pk=2")
    login_desk.post("/reader/edit?pk=2", {**form, "first_name": "Ada"})
    login_desk.post("/author/create", {"name": "New", "born": "1999-09-09"})
    login_desk.act("/_api/loan/row-action?name=delete&pk=2,1")
    login_desk.act("/_api/author/row-action?name=delete&pk=1")
    with login_desk.admin.store.db.engine.connect() as connection:
        found = connection.execute(sa.select(changes).order_by(changes.c.id)).mappings().all()
    lines = [(item["account"], item["action"], item["resource"], item["row"], item["outcome"]) for item in found]
    assert lines == [
        ("ada", "login", "", "", "done"),
        ("ada", "edit", "Reader", "2", "done"),
        ("ada", "create", "Author", "21", "done"),
        ("ada", "delete", "Loan", "2,1", "done"),
        ("ada", "delete", "Author", "1", "failed"),
    ]
    assert found[1]["fields"] == {"first_name": ["Alan", "Ada"]}
    assert found[2]["fields"] == {"name": [None, "New"], "born": [None, "1999-09-09"]}
    assert found[3]["fields"]["due"] == ["2026-03-01", None]
    assert all(item["address"] == "192.0.2.1" for item in found)
    page = login_desk.get("/_changes").text
    assert "first_name" in page
    assert CANARY not in page + repr(found)


def test_a_missing_extra_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch, make_desk: Make) -> None:
    monkeypatch.setattr("fastapi_sqlalchemy.admin.extra.find_spec", lambda name: None if name == "argon2" else name)
    with pytest.raises(MissingExtraError, match=r'pip install "fastapi-sqlalchemy\[admin\]"'), make_desk():
        pass
    assert Admin.__init__.__doc__ is None
