"""The commands of the admin: accounts, where they are kept, and ``serve --admin`` on somebody else's database."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fastapi_sqlalchemy import ConfigurationError, SQLAlchemy
from fastapi_sqlalchemy.admin import Accounts, Admin, AdminStore
from fastapi_sqlalchemy.admin.accounts import ADDRESS_GUESSES, Login
from fastapi_sqlalchemy.admin.changes import Change, Changes
from fastapi_sqlalchemy.admin.location import default_store
from fastapi_sqlalchemy.cli import run
from fastapi_sqlalchemy.cli.admin_access import admin_of
from fastapi_sqlalchemy.cli.application import TEMPORARY, ServeSettings, create_app
from fastapi_sqlalchemy.cli.target import database_of
from tests.admin.conftest import Desk
from tests.admin.test_rows import cells
from tests.support.client import TestClient
from tests.support.uvicorn import serve_app

LONG = "correct horse battery"


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of our own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FASTAPI_SQLALCHEMY_ADMIN_STORE", raising=False)
    monkeypatch.setenv("SECRET", LONG)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "fastapi-sqlalchemy"


def names_in(store: AdminStore) -> list[str]:
    try:
        store.prepare()
        return Accounts(store).names()
    finally:
        store.db.dispose()


def test_an_account_is_made_changed_listed_and_deleted(
    configuration: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["admin", "create-user", "ada", "app.db", "--password-env", "SECRET"]) == 0
    assert "ada can log in now" in capsys.readouterr().out
    (file,) = configuration.glob("admin-app-*.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o700
    assert run(["admin", "create-user", "ada", "sqlite:///app.db", "--password-env", "SECRET"]) == 2
    assert "There is an account named 'ada'" in capsys.readouterr().err
    assert run(["admin", "set-password", "ada", "app.db", "--password-env", "SECRET"]) == 0
    monkeypatch.setenv("DATABASE_URL", "sqlite:///app.db")
    capsys.readouterr()
    assert run(["admin", "list-users"]) == 0
    assert capsys.readouterr().out == "ada\n"
    assert run(["admin", "delete-user", "ada"]) == 0
    assert run(["admin", "delete-user", "ada"]) == 2
    assert "There is no account named 'ada'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "variable", "why"),
    [
        ("ada", "SHORT", "at least 10 characters"),
        ("ada", "UNSET", "is not set"),
        (" x", "SECRET", "1 to 150 characters"),
    ],
)
def test_an_account_that_cannot_be_is_refused_in_one_line(
    name: str, variable: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "short")
    assert run(["admin", "create-user", name, "app.db", "--password-env", variable]) == 2
    captured = capsys.readouterr().err
    assert why in captured
    assert len(captured.splitlines()) == 1
    assert "short" not in captured.replace("SHORT", "")


def test_one_database_has_one_store_however_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "my shop.db"
    file.touch()
    names = {
        default_store(url)
        for url in (
            sa.make_url(f"sqlite:///{file}"),
            sa.make_url("sqlite:///my shop.db"),
            sa.make_url(f"sqlite+aiosqlite:///{file}"),
            database_of(str(file), write=False).url,
            database_of(str(file), write=True).url,
        )
    }
    assert len(names) == 1
    one = default_store(sa.make_url("postgresql://a:secret@server/shop"))
    assert one == default_store(sa.make_url("postgresql+asyncpg://a:other@server/shop"))
    assert one != default_store(sa.make_url("postgresql://a:secret@server/other"))
    assert "secret" not in str(one)


def test_guesses_at_one_moment_are_limited_as_one_after_another_are(
    database_url: str, figure: Callable[..., None]
) -> None:
    store = AdminStore(database_url, sa.make_url("sqlite:///app.db"))
    store.prepare()
    accounts = Accounts(store)

    async def guess() -> list[Login]:
        return await asyncio.gather(*(accounts.login("ada", "wrong", "192.0.2.1") for _ in range(30)))

    answers = asyncio.run(guess())
    counted = [answer for answer in answers if answer.wait == 0]
    assert len(counted) == ADDRESS_GUESSES
    figure(
        "S2", variant=f"admin: guesses at once, {store.db.engine.name}", n=30, failures=len(counted) - ADDRESS_GUESSES
    )
    store.db.dispose()


def test_a_name_is_the_account_whose_name_it_is_and_no_other(mariadb_url: str) -> None:
    store = AdminStore(mariadb_url, sa.make_url("sqlite:///app.db"))
    store.prepare()
    accounts = Accounts(store)
    accounts.create("ada", LONG)
    for name in ("Ada", "\u00e0da"):  # the same by the collation of the column
        assert asyncio.run(accounts.login(name, LONG, "192.0.2.1")) == Login(None)
        with pytest.raises(ConfigurationError, match="no account"):
            accounts.set_password(name, "another long password")
    assert asyncio.run(accounts.login("ada", LONG, "192.0.2.1")) == Login("ada")
    store.db.dispose()


def test_the_store_can_be_any_database(postgres_url: str) -> None:
    store = AdminStore(postgres_url, sa.make_url("sqlite:///app.db"))
    store.prepare()
    accounts = Accounts(store)
    accounts.create("ada", LONG)

    async def steps() -> None:
        for name in ("a\x00b", "\ud800", "x" * 200, "ada "):
            assert await accounts.login(name, LONG, "192.0.2.1") == Login(None)
        assert await accounts.login("ada", LONG, "192.0.2.1") == Login("ada")
        change = Change("ada", "192.0.2.1", "edit", "t", "k\x00\ud800")
        async with Changes(store).log(change):
            change.note({"a": "x\x00"}, {"a": "\udfff" * 300})
        (entry,) = await Changes(store).latest()
        assert (entry.row, entry.outcome) == ("k\ufffd?", "done")
        with pytest.raises(RuntimeError):
            async with Changes(store).log(change):
                raise RuntimeError
        assert (await Changes(store).latest())[0].outcome == "failed"

    asyncio.run(steps())
    assert names_in(AdminStore(postgres_url, sa.make_url("sqlite:///app.db"))) == ["ada"]
    store.db.dispose()


@contextmanager
def served(path: Path, **options: Any) -> Iterator[tuple[Desk, str]]:
    """``serve --admin``, logged in with the password that it prints."""
    access = admin_of(ServeSettings(str(path), admin=True, **options), database_of(str(path), write=False).url)
    app = create_app(access.settings)
    lines = dict(access.lines(app, "http://127.0.0.1:8000"))
    mounted = next(route for route in app.routes if isinstance(getattr(route, "app", None), Admin))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as client:
        desk = Desk(None, mounted.app, client, mounted.path)  # type: ignore[arg-type,attr-defined]
        yield desk, lines.get("Login", "")
    mounted.app.store.db.dispose()  # type: ignore[attr-defined]


def make_file(folder: Path) -> Path:
    path = folder / "shop.db"
    with sqlite3.connect(path) as raw:
        raw.executescript("""
            CREATE TABLE "order details" ("the ""id"", x" INTEGER PRIMARY KEY, "unit price" REAL, "naïve (name)" TEXT,
                "admin" INTEGER REFERENCES admin);
            CREATE TABLE admin (id INTEGER PRIMARY KEY, name TEXT, password TEXT);
            CREATE TABLE keyless (a TEXT);
            CREATE VIEW recent AS SELECT * FROM admin;
            CREATE VIEW broken AS SELECT * FROM nowhere;
            INSERT INTO admin VALUES (1, 'first', 'canary'), (2, 'second', 'canary');
            INSERT INTO "order details" VALUES (1, 2.5, 'x', 1), (2, 3.5, 'y', NULL);
            INSERT INTO keyless VALUES ('a');
        """)
    raw.close()
    return path


def test_serve_shows_every_table_and_adds_nothing_to_the_database(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    before = path.read_bytes()
    with served(path) as (desk, login):
        found = re.fullmatch(rf"{TEMPORARY}, password (\S+) \(until this server stops\)", login)
        assert found is not None
        assert desk.base == "/-/admin"
        assert desk.get("/", follow_redirects=False).status_code == 303
        assert desk.log_in(TEMPORARY, found[1]).status_code == 303
        start = desk.get("/").text
        for name in ("order details", "admin", "keyless", "recent", "broken", "Read only"):
            assert name in start
        page = desk.get("/order-details/list?sort=column_2__desc")
        assert cells(page, "column_2") == ["3.5", "2.5"]
        assert cells(desk.get('/order-details/list?filter=column_3__eq="x"'), "column_3") == ["x"]
        assert "first" in desk.get("/order-details/detail?pk=1").text
        assert cells(desk.get("/keyless/list"), "a") == ["a"]
        assert len(cells(desk.get("/recent/list"), "name")) == 2
        assert "canary" not in desk.get("/admin/list").text + desk.get("/admin/detail?pk=1").text
        assert desk.get("/order-details/edit?pk=1").status_code == 403
        assert desk.client.get("/admin").json()[0]["name"] == "first"
    assert path.read_bytes() == before


def test_serve_with_write_changes_rows_through_the_admin(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with served(path, write=True, no_login=True) as (desk, login):
        assert login.startswith("none")
        desk.get("/")
        form = desk.form("/order-details/edit?pk=2")
        answer = desk.post(
            "/order-details/edit?pk=2", {**form, "column_2": "9.5", "admin_by_admin": "2"}, follow_redirects=False
        )
        assert answer.status_code == 303
        assert cells(desk.get("/order-details/list"), "admin_by_admin") == ["first", "second"]
        assert desk.get("/recent/create").status_code == 403
        assert desk.get("/_changes").text.count("order details") >= 1
    with sqlite3.connect(path) as raw:
        assert raw.execute('SELECT "unit price", "admin" FROM "order details"').fetchall() == [(2.5, 1), (9.5, 2)]
    raw.close()


def test_the_password_of_one_run_opens_no_other(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with served(path) as (desk, login):
        password = login.split()[2]
        assert desk.log_in(TEMPORARY, password).status_code == 303
        cookies = dict(desk.client.cookies)
    with served(path) as (desk, _):
        for name, value in cookies.items():
            desk.client.cookies.set(name, value)
        assert desk.get("/", follow_redirects=False).status_code == 303
        desk.client.cookies.clear()
        assert desk.log_in(TEMPORARY, password).status_code == 401


def test_once_there_is_an_account_no_password_is_printed(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    assert run(["admin", "create-user", "ada", str(path), "--password-env", "SECRET"]) == 0
    with served(path) as (desk, login):
        assert login == ""
        assert desk.log_in(TEMPORARY, LONG).status_code == 401
        assert desk.log_in("ada", LONG).status_code == 303


@pytest.mark.parametrize(
    "arguments",
    [("--admin", "--no-login", "--host", "0.0.0.0"), ("--no-login",), ("--admin", "--no-login", "--host", "::")],
)
def test_an_admin_without_a_login_is_not_started_off_loopback(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: Callable[..., None]
) -> None:
    assert run(["serve", str(make_file(tmp_path)), "--port", "0", *arguments]) == 2
    assert "--no-login is for --admin on this machine alone" in capsys.readouterr().err
    figure("S2", variant=f"serve {' '.join(arguments)}", n=1, failures=0)


def test_a_store_that_cannot_be_made_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert run(["admin", "list-users", "app.db"]) == 2
    assert "Name another place with FASTAPI_SQLALCHEMY_ADMIN_STORE" in capsys.readouterr().err
    monkeypatch.setenv("FASTAPI_SQLALCHEMY_ADMIN_STORE", str(tmp_path / "elsewhere.db"))
    assert run(["admin", "list-users", "app.db"]) == 0
    assert os.path.exists(tmp_path / "elsewhere.db")


def test_models_and_fields_can_be_chosen(tmp_path: Path) -> None:
    from fastapi_sqlalchemy import ConfigurationError
    from tests.admin.apps.library import Library, account_of

    library = Library("sqlite:///library.db")
    library.fill(books=3)
    app = FastAPI()
    admin = Admin(
        app,
        db=library.db,
        models=[library.Reader, library.Book],
        exclude={library.Book: ["notes"]},
        expose={library.Reader: ["hashed_password"]},
        labels={library.Reader: "email"},
        title="Chosen",
    )
    account_of(admin)
    with TestClient(app, base_url="https://library.test") as client:
        desk = Desk(library, admin, client)
        desk.log_in()
        assert "Author" not in desk.get("/").text
        assert cells(desk.get("/book/list"), "author_id") == ["1", "2", "3"]
        assert cells(desk.get("/book/list"), "notes") == []
        assert cells(desk.get("/reader/list"), "hashed_password")[0].startswith("canary")
        assert "grace@example.org</h2>" in desk.get("/reader/detail?pk=1").text
    for options in ({"labels": {library.Book: "nothing"}}, {"exclude": {library.Loan: ["note"]}, "models": []}):
        broken = FastAPI()
        other = Admin(broken, db=library.db, store="other.db", **options)
        with pytest.raises(ConfigurationError), TestClient(broken) as client:
            client.get("/admin/")
        other.store.db.dispose()
    admin.store.db.dispose()
    library.db.dispose()


def test_an_admin_belongs_to_one_database_and_two_do_not_meet(tmp_path: Path) -> None:
    app = FastAPI()
    stores = []
    for number in (1, 2):
        db = SQLAlchemy(f"sqlite:///{number}.db")
        stores.append(Admin(app, db=db, path=f"/admin{number}").store)
    assert stores[0].url != stores[1].url


def test_the_example_has_an_admin(tmp_path: Path) -> None:
    assert run(["admin", "create-user", "ada", "--store", "store.db", "--password-env", "SECRET"]) == 0
    environment = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'library.db'}",
        "FASTAPI_SQLALCHEMY_ADMIN_STORE": str(tmp_path / "store.db"),
    }
    with serve_app("examples.library.main:app", tmp_path, environment=environment) as site:
        page = site.client.get("/admin", follow_redirects=True)
        token = re.search(r'name="csrftoken" value="([^"]+)"', page.text)
        assert token is not None
        values = {"csrftoken": token[1], "username": "ada", "password": LONG}
        assert site.client.post("/admin/login", data=values).status_code == 303
        found = site.client.get("/admin/loan/list")
        assert "Emmy Noether" in cells(found, "reader")
        assert "Emma" not in cells(found, "book")
        assert "Frankenstein" in " ".join(cells(site.client.get("/admin/book/list"), "title"))
