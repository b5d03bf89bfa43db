"""Libraries with an admin, and clients that are logged in."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI, Request

from fastapi_sqlalchemy.admin import Admin, passwords
from tests.admin.apps.library import NAME, PASSWORD, Library, account_of
from tests.support.client import TestClient


@pytest.fixture(autouse=True, scope="session")
def real_hasher() -> Iterator[Callable[[], PasswordHasher]]:
    """What makes the real hashes, whose 60 ms are on purpose: every other test has one that takes a tenth of one."""
    real, cheap = passwords._hasher, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", lambda: cheap)
        yield real


@dataclass
class Desk:
    """An admin under test: what it is made of, and a client of it."""

    library: Library
    admin: Admin
    client: TestClient
    base: str = "/admin"

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """A page of the admin."""
        return self.client.get(f"{self.base}{path}", **options)

    def post(self, path: str, values: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        """A form that a page of the admin sends."""
        token = self.client.cookies.get("starlette_admin_csrftoken") or ""
        return self.client.post(f"{self.base}{path}", data={"csrftoken": token, **(values or {})}, **options)

    def act(self, path: str, **options: Any) -> httpx2.Response:
        """A request that a script of the admin sends."""
        token = self.client.cookies.get("starlette_admin_csrftoken") or ""
        return self.client.post(f"{self.base}{path}", headers={"X-CSRFToken": token}, **options)

    def log_in(self, name: str = NAME, password: str = PASSWORD) -> httpx2.Response:
        """Log in as people do."""
        self.get("/login")
        return self.post("/login", {"username": name, "password": password}, follow_redirects=False)

    def form(self, path: str) -> dict[str, str]:
        """The hidden values of a form."""
        page = html.unescape(self.get(path).text)
        found = re.search(r'name="_etag" value="("[^"]*")"', page)
        assert found is not None
        return {"_etag": found[1]}


@contextmanager
def desk_of(url: str, folder: Path, *, log_in: bool = True, books: int = 60, **options: Any) -> Iterator[Desk]:
    """A library on a database, its admin, and a client that is logged in."""
    library = Library(url)
    library.fill(books=books)
    app = FastAPI()
    admin = Admin(app, db=library.db, store=str(folder / "admin.db"), **options)
    if options.get("auth", "login") == "login":
        account_of(admin)
    base_url = "http://127.0.0.1:8000" if options.get("auth") is False else "https://library.test"
    client = TestClient(
        app, base_url=base_url, client=("127.0.0.1", 50000) if options.get("auth") is False else ("192.0.2.1", 50000)
    )
    with client:
        desk = Desk(library, admin, client)
        if log_in and options.get("auth", "login") == "login":
            assert desk.log_in().status_code == 303
        yield desk
    library.db.dispose()
    admin.store.db.dispose()


def everybody(request: Request) -> str:
    """For tests that are not about logins: everybody is known."""
    return NAME


@pytest.fixture
def login_desk(sqlite_url: str, tmp_path: Path) -> Iterator[Desk]:
    """An admin that may write, on SQLite, and somebody who has logged in."""
    with desk_of(sqlite_url, tmp_path, write=True) as made:
        yield made


@pytest.fixture
def desk(sqlite_url: str, tmp_path: Path) -> Iterator[Desk]:
    """An admin that may write, on SQLite, to which everybody is known."""
    with desk_of(sqlite_url, tmp_path, write=True, auth=everybody) as made:
        made.get("/")
        yield made


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An admin whose rows no test changes, made once for a file of tests."""
    folder = tmp_path_factory.mktemp("shared")
    with desk_of(f"sqlite:///{folder / 'library.db'}", folder, write=True, auth=everybody) as made:
        made.get("/")
        yield made


@pytest.fixture
def make_desk(sqlite_url: str, tmp_path: Path) -> Callable[..., Any]:
    """An admin with other options."""

    def make(url: str = sqlite_url, **options: Any) -> Any:
        return desk_of(url, tmp_path, **options)

    return make
