"""Nobody gets in without a login: its cookies, its end, and how guesses are limited."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY
from fastapi import FastAPI, Request

from fastapi_sqlalchemy import ConfigurationError, SQLAlchemy
from fastapi_sqlalchemy.admin import Accounts, Admin, passwords
from fastapi_sqlalchemy.admin.accounts import ADDRESS_GUESSES
from fastapi_sqlalchemy.admin.guard import CSRF_COOKIE, SESSION_COOKIE
from fastapi_sqlalchemy.admin.sessions import IDLE, LIFETIME
from fastapi_sqlalchemy.admin.store import attempts, sessions
from tests.admin.apps.library import NAME, PASSWORD
from tests.admin.conftest import Desk
from tests.support.client import TestClient

Make = Callable[..., Any]


def cookies_of(response: Any) -> dict[str, Any]:
    found: SimpleCookie = SimpleCookie()
    for line in response.headers.get_list("set-cookie"):
        found.load(line)
    return dict(found)


def change_store(desk: Desk, statement: Any) -> Any:
    return desk.admin.store.run_sync(lambda session: session.execute(statement))


PAGES = ("/", "/book/list", "/book/detail?pk=1", "/book/edit?pk=1", "/book/create", "/_changes")


def test_no_page_is_shown_without_a_login(make_desk: Make, figure: Callable[..., None]) -> None:
    with make_desk(log_in=False, write=True) as desk:
        for page in PAGES:
            answer = desk.get(page, follow_redirects=False)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("https://library.test/admin/login?next=")
        lookup = desk.get("/_api/author/relation-lookup", follow_redirects=False)
        assert lookup.status_code == 303
        for path in ("/book/create", "/book/edit?pk=1", "/_api/book/action?name=delete&pks=1", "/logout"):
            assert desk.act(path, follow_redirects=False).status_code in (303, 403)
        with desk.library.db():
            assert desk.library.db.session.scalar(sa.select(sa.func.count()).select_from(desk.library.Book)) == 60
    figure("S2", variant="admin: pages without a login", n=len(PAGES) + 5, failures=0)


def test_the_cookie_of_the_session_is_hidden_strict_and_made_anew_at_login_and_logout(make_desk: Make) -> None:
    with make_desk(log_in=False) as desk:
        first = desk.log_in()
        session = cookies_of(first)[SESSION_COOKIE]
        assert session["httponly"]
        assert session["secure"]
        assert session["samesite"] == "Lax"
        assert session["path"] == "/admin"
        before = desk.client.cookies.get(CSRF_COOKIE)
        second = desk.log_in()
        assert cookies_of(second)[SESSION_COOKIE].value != session.value
        assert desk.client.cookies.get(CSRF_COOKIE) != before
        stolen = {SESSION_COOKIE: session.value}
        with TestClient(desk.client.app, base_url="https://library.test", cookies=stolen) as other:
            assert other.get("/admin/", follow_redirects=False).status_code == 303
        last = desk.client.cookies.get(SESSION_COOKIE)
        answer = desk.post("/logout", follow_redirects=False)
        assert answer.headers["location"].endswith("/admin/login")
        assert cookies_of(answer)[SESSION_COOKIE]["max-age"] == "0"
        with TestClient(desk.client.app, base_url="https://library.test", cookies={SESSION_COOKIE: last}) as other:
            assert other.get("/admin/", follow_redirects=False).status_code == 303


def test_over_plain_http_the_cookie_is_not_lost(make_desk: Make) -> None:
    with make_desk(log_in=False) as desk, TestClient(desk.client.app, base_url="http://library.test") as client:
        desk.client = client
        assert not cookies_of(desk.log_in())[SESSION_COOKIE]["secure"]
        assert desk.get("/", follow_redirects=False).status_code == 200


@pytest.mark.parametrize("column", ["created_at", "seen_at"])
def test_a_session_ends_by_itself(login_desk: Desk, column: str) -> None:
    long_ago = dt.datetime.now(dt.UTC).replace(tzinfo=None) - (LIFETIME if column == "created_at" else IDLE)
    change_store(login_desk, sa.update(sessions).values({column: long_ago - dt.timedelta(seconds=1)}))
    assert login_desk.get("/", follow_redirects=False).status_code == 303


def test_a_new_password_or_no_account_any_more_ends_the_sessions(login_desk: Desk) -> None:
    accounts = Accounts(login_desk.admin.store)
    accounts.set_password(NAME, "another horse battery")
    assert login_desk.get("/", follow_redirects=False).status_code == 303
    assert login_desk.log_in().status_code == 401
    assert login_desk.log_in(password="another horse battery").status_code == 303
    accounts.delete(NAME)
    assert login_desk.get("/", follow_redirects=False).status_code == 303


def test_the_store_keeps_neither_passwords_nor_tokens(login_desk: Desk) -> None:
    token = login_desk.client.cookies.get(SESSION_COOKIE)
    login_desk.log_in("somebody", "a typed password")
    login_desk.log_in("my password by mistake", "x")
    dump = ""
    with login_desk.admin.store.db.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            dump += repr(connection.execute(sa.text(f'SELECT * FROM "{table}"')).all())
    assert "$argon2id$" in dump
    for secret in (token, PASSWORD, "a typed password", "my password by mistake"):
        assert secret not in dump


def test_guesses_are_limited_by_address(make_desk: Make, figure: Callable[..., None]) -> None:
    with make_desk(log_in=False) as desk:
        moment = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        earlier = {"account": "x", "address": "192.0.2.1", "at": moment - dt.timedelta(minutes=5)}
        change_store(desk, sa.insert(attempts).values([earlier] * (ADDRESS_GUESSES - 2)))
        for number in range(2):
            assert desk.log_in(f"name {number}", "wrong").status_code == 401
        refused = desk.log_in()
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 900
        assert "Too many wrong guesses" in refused.text
        elsewhere = ("198.51.100.7", 50000)
        with TestClient(desk.client.app, base_url="https://library.test", client=elsewhere) as client:
            desk.client = client
            assert desk.log_in().status_code == 303
    figure("S2", variant="admin: guesses before a 429", n=ADDRESS_GUESSES, failures=0)


def test_guesses_of_one_name_are_limited_over_all_addresses(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_sqlalchemy.admin.accounts.ACCOUNT_GUESSES", 3)
    with make_desk(log_in=False) as desk:
        for number in range(3):
            with TestClient(
                desk.client.app, base_url="https://library.test", client=(f"198.51.100.{number}", 1)
            ) as client:
                desk.client = client
                assert desk.log_in(password="wrong").status_code == 401
        assert desk.log_in().status_code == 429
        long_ago = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(hours=1)
        change_store(desk, sa.update(attempts).values(at=long_ago))
        assert desk.log_in().status_code == 303


def test_a_name_that_is_not_there_is_answered_like_a_wrong_password(make_desk: Make) -> None:
    with make_desk(log_in=False) as desk:
        wrong, unknown = desk.log_in(password="wrong"), desk.log_in("nobody", "wrong")
        assert wrong.status_code == unknown.status_code == 401
        assert "do not open the admin" in wrong.text
        assert "do not open the admin" in unknown.text
        assert desk.log_in(password="x" * 5000).status_code == 401
        assert desk.log_in("\u0000\ud7ff" * 90, "x").status_code == 401


def test_after_the_login_only_pages_of_this_site_follow(make_desk: Make) -> None:
    with make_desk() as desk:
        for target, follows in (
            ("https://library.test/admin/book/list", "https://library.test/admin/book/list"),
            ("https://evil.test/", "https://library.test/admin/"),
            ("//evil.test/", "https://library.test/admin/"),
            ("javascript:alert(1)", "https://library.test/admin/"),
        ):
            answer = desk.client.get("/admin/login", params={"next": target}, follow_redirects=False)
            assert answer.headers["location"] == follows


@pytest.mark.parametrize("is_stripped", [False, True], ids=["whole path", "stripped path"])
def test_behind_a_prefix_every_address_has_it(make_desk: Make, is_stripped: bool) -> None:
    with make_desk(log_in=False) as desk:
        client = TestClient(desk.client.app, base_url="https://library.test", root_path="/api")
        prefix = "" if is_stripped else "/api"
        answer = client.get(f"{prefix}/admin/book/list", follow_redirects=False)
        found = parse_qs(urlparse(answer.headers["location"]).query)
        assert answer.headers["location"].startswith("https://library.test/api/admin/login?")
        assert found["next"] == ["https://library.test/api/admin/book/list"]
        assert set(re.findall(r"Path=[^;]*", answer.headers["set-cookie"])) == {"Path=/api/admin"}
        page = client.get(f"{prefix}/admin/login")
        assets = re.findall(r'(?:href|src)="https://library\.test(/[^"]+)"', page.text)
        assert assets
        for asset in assets:
            assert asset.startswith("/api/admin/static/")
            sent = client.get(asset.removeprefix("/api") if is_stripped else asset)
            assert sent.status_code == 200
            assert sent.headers["cache-control"] == "public, max-age=3600"
            assert "set-cookie" not in sent.headers
        for path in ("/admin/static/../book/list", "/admin/static/%2e%2e/book/list", "/admin//book/list"):
            tried = client.get(f"{prefix}{path}", follow_redirects=False)
            assert tried.status_code in (303, 404)


def test_without_an_account_the_login_page_says_how_to_make_one(make_desk: Make) -> None:
    with make_desk(log_in=False) as desk:
        Accounts(desk.admin.store).delete(NAME)
        assert "fastapi-sqlalchemy admin create-user" in desk.get("/login").text


def test_an_admin_without_a_login_answers_this_machine_alone(make_desk: Make, figure: Callable[..., None]) -> None:
    refused = 0
    with make_desk(auth=False) as desk:
        assert desk.get("/book/list").status_code == 200
        assert "This admin has no login" in desk.get("/book/list").text
        app = desk.client.app
        for base, client, headers in (
            ("http://127.0.0.1:8000", "192.0.2.9", {}),
            ("http://library.test", "127.0.0.1", {}),
            ("http://rebound.test:8000", "127.0.0.1", {}),
            ("http://127.0.0.1:8000", "127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
            ("http://127.0.0.1:8000", "127.0.0.1", {"Forwarded": "for=192.0.2.9"}),
        ):
            with TestClient(app, base_url=base, client=(client, 1), headers=headers) as other:
                answers = [other.get("/admin/book/list"), other.get("/admin/static/admin/admin.css")]
                assert [answer.status_code for answer in answers] == [403, 403]
                refused += 1
    figure("S2", variant="admin: no login off loopback", n=refused, failures=0)


def test_the_application_can_tell_who_it_is(make_desk: Make) -> None:
    async def who(request: Request) -> str | None:
        return {"Bearer 1": "grace"}.get(request.headers.get("authorization", ""))

    with make_desk(auth=who) as desk:
        assert desk.get("/").status_code == 403
        page = desk.get("/", headers={"Authorization": "Bearer 1"})
        assert page.status_code == 200
        assert "grace" in page.text
        assert "Log out" not in page.text
        assert desk.get("/login", headers={"Authorization": "Bearer 1"}).status_code == 404
        assert desk.get("/", headers={"Authorization": "Bearer 2"}).status_code == 403


@pytest.mark.parametrize(
    "options", [{"auth": None}, {"auth": True}, {"auth": "none"}, {"path": "admin"}, {"path": "/admin/"}]
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Admin(FastAPI(), db=SQLAlchemy("sqlite://"), **options)


def test_many_logins_at_once_each_get_a_session_of_their_own(make_desk: Make) -> None:
    with make_desk(log_in=False) as desk:
        desk.get("/login")
        found: list[str] = []

        def log_in() -> None:
            client = TestClient(desk.client.app, base_url="https://library.test")
            client.get("/admin/login")
            data = {"csrftoken": client.cookies.get(CSRF_COOKIE), "username": NAME, "password": PASSWORD}
            answer = client.post("/admin/login", data=data, follow_redirects=False)
            found.append(cookies_of(answer)[SESSION_COOKIE].value)

        threads = [threading.Thread(target=log_in) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 3


def test_the_hash_of_a_password_is_the_one_that_rfc_9106_recommends(
    real_hasher: Callable[[], PasswordHasher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_hasher", real_hasher)
    stored = passwords.hash_password(PASSWORD)
    assert extract_parameters(stored) == RFC_9106_LOW_MEMORY
    assert (passwords.verify(stored, PASSWORD), passwords.verify(stored, PASSWORD + "!")) == (True, False)
