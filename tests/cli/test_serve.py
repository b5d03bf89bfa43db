"""``fastapi-sqlalchemy serve``: what it serves, to whom, and how it refuses."""

# ruff: noqa: E501  # statements of SQL are read better whole

from __future__ import annotations

import gc
import html
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from fastapi_sqlalchemy.cli import run
from fastapi_sqlalchemy.cli.application import ServeSettings, create_app
from fastapi_sqlalchemy.cli.token import GUESSES
from fastapi_sqlalchemy.web.requests import is_loopback
from tests.support.client import TestClient
from tests.support.nursery import programs
from tests.support.samples import sqlite_copy

HOSTILE = "<script>alert(1)</script>\"&'"
SAMPLES = {"chinook/Chinook_Sqlite.sqlite": 11, "northwind/northwind.db": 13, "world/world.sqlite": 3}


def make_file(folder: Path, script: str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "shop.db"
    with sqlite3.connect(path) as raw:
        raw.executescript(script)
    raw.close()
    return path


@contextmanager
def client_of(path: Path | str, **options: Any) -> Generator[TestClient]:
    app = create_app(ServeSettings(target=str(path), **options))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails with exit code 2."""
    assert run(["serve", *arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert lines[0].startswith("fastapi-sqlalchemy: ")
    return lines[0]


@pytest.mark.parametrize("file", SAMPLES)
def test_a_sample_has_a_start_page_with_counts_a_diagram_and_documentation(file: str, tmp_path: Path) -> None:
    with client_of(sqlite_copy(file, tmp_path)) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        links = re.findall(r'<a href="\.(/[^"]+)"', page.text)
        for link in dict.fromkeys(link.partition("#")[0] for link in links):
            assert (
                client.get(link, params={"limit": 1} if link.count("/") == 1 and "." not in link else {}).status_code
                == 200
            )
        picture = client.get("/-/schema.svg")
        root = ET.fromstring(picture.text)
        boxes = [group for group in root if group.tag.endswith("}g") and group.find("{*}rect") is not None]
        assert len(boxes) == SAMPLES[file]
        assert "http" not in picture.text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 200


def test_every_page_has_an_icon_of_the_servers_own(tmp_path: Path) -> None:
    path = make_file(tmp_path, 'CREATE TABLE "favicon.ico" (id INTEGER PRIMARY KEY)')
    for file, place in ((make_file(tmp_path / "other"), "/favicon.ico"), (path, "/-/favicon.ico")):
        with client_of(file) as client:
            assert client.get(place).headers["content-type"] == "image/svg+xml"
            assert f'<link rel="icon" type="image/svg+xml" href=".{place}">' in client.get("/").text
            docs = client.get("/docs").text
            assert f'href="{place}"' in docs
            assert "tiangolo" not in docs


def test_the_start_page_tells_of_estimates_where_there_are_any_and_what_to_try(tmp_path: Path) -> None:
    with client_of(
        make_file(tmp_path, "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, password TEXT)")
    ) as client:
        page = html.unescape(client.get("/").text)
        assert "estimates" not in page
        tried = re.findall(r'<a href="\.([^"]+)"><code>', page)
        assert tried == ["/item?limit=5", "/item?sort=-id&limit=5", "/item?fields=id,name&count=exact"]
        assert [client.get(address).status_code for address in tried] == [200, 200, 200]


def test_a_view_that_cannot_be_read_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_SQLALCHEMY_ADMIN_STORE", str(tmp_path / "store.db"))
    script = "CREATE TABLE item (id INTEGER PRIMARY KEY); CREATE VIEW broken AS SELECT * FROM nowhere"
    with client_of(make_file(tmp_path, script)) as client:
        page = client.get("/").text
        assert page.count(">broken<") == 1
        assert "Not served" not in page
    app = create_app(ServeSettings(target=str(tmp_path / "shop.db"), admin=True, no_login=True))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as local:
        assert local.get("/admin/").text.count("broken: OperationalError: no such table") == 1


def test_documentation_that_cannot_have_its_script_leads_to_the_document(tmp_path: Path) -> None:
    with client_of(make_file(tmp_path)) as client:
        assert '<a href="/openapi.json">' in client.get("/docs").text


@pytest.mark.parametrize("admin", [True, False])
def test_the_start_page_leads_to_the_admin_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, admin: bool
) -> None:
    monkeypatch.setenv("FASTAPI_SQLALCHEMY_ADMIN_STORE", str(tmp_path / "store.db"))
    path = make_file(tmp_path, "CREATE TABLE admin (id INTEGER PRIMARY KEY)")  # which has the path /admin
    with client_of(path, admin=admin) as client:
        links = re.findall(r'<a href="\.([^"]+)">Admin</a>', client.get("/").text)
        assert [client.get(link).url.path for link in links] == (["/-/admin/login"] if admin else [])


def test_the_start_page_counts_exactly_what_is_cheap(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with sqlite3.connect(path) as raw:
        raw.executemany("INSERT INTO item (name) VALUES (?)", [(str(number),) for number in range(1234)])
    raw.close()
    with client_of(path) as client:
        assert '<td class="rows">1,234</td>' in client.get("/").text


def test_boxes_of_the_diagram_do_not_overlap(tmp_path: Path) -> None:
    script = "".join(
        f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, a INTEGER REFERENCES t{n * 7 % 30}, b INTEGER REFERENCES t{n * 3 % 29},"
        f" {', '.join(f'c{k} TEXT' for k in range(n))}, z TEXT);"
        for n in range(1, 30)
    )
    with client_of(make_file(tmp_path, f"CREATE TABLE t0 (id INTEGER PRIMARY KEY);{script}")) as client:
        root = ET.fromstring(client.get("/-/schema.svg").text)
    found = [group.find("{*}rect") for group in root if group.tag.endswith("}g")]
    boxes = [[float(box.get(name, 0)) for name in ("x", "y", "width", "height")] for box in found if box is not None]
    assert len(boxes) == 30
    for number, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[number + 1 :]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_hostile_names_are_escaped_and_the_page_runs_nothing(tmp_path: Path) -> None:
    quoted = HOSTILE.replace('"', '""')
    path = make_file(
        tmp_path, f'CREATE TABLE "{quoted}" (id INTEGER PRIMARY KEY, "{quoted}" TEXT, p REFERENCES "{quoted}");'
    )
    with client_of(path) as client:
        page, picture = client.get("/"), client.get("/-/schema.svg")
        for answer in (page, picture):
            assert "<script" not in answer.text
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
        ET.fromstring(picture.text)
        assert "&lt;script&gt;" in page.text
        assert client.get("/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%26%27").json() == []


def test_tables_named_like_our_own_paths_keep_theirs(tmp_path: Path) -> None:
    names = ("docs", "openapi.json", "-", "redoc", "docs/oauth2-redirect")
    path = make_file(tmp_path, "".join(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY);' for name in names))
    with client_of(path) as client:
        for name in names:
            assert client.get(f"/{quote(name, safe='')}").json() == []
        assert client.get("/-/docs").status_code == client.get("/-/openapi.json").status_code == 200
        assert client.get("/-/schema.svg").status_code == 200


def test_what_is_served_is_read_only_unless_asked_for(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    before = path.read_bytes()
    with client_of(path) as client:
        assert client.post("/item", json={"name": "a"}).status_code == 405
        assert client.delete("/item/1").status_code == 405
        assert client.get("/item").json() == []
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["shop.db"]
    with client_of(path, write=True) as client:
        assert client.post("/item", json={"name": "a"}).json() == {"id": 1, "name": "a"}
        assert client.get("/item/1").json() == {"id": 1, "name": "a"}
        assert client.post("/item", json={"name": "b"}, headers={"host": "evil.example"}).status_code == 400


def test_a_document_of_many_tables_is_made_while_the_collector_rests(tmp_path: Path) -> None:
    path = make_file(tmp_path, "".join(f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, name TEXT);" for n in range(20)))
    seen: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    with client_of(path) as client:
        app: Any = client.app
        gc.callbacks.append(note)
        try:
            assert len(app.openapi()["paths"]) == 40
        finally:
            gc.callbacks.remove(note)
    assert seen.count("start") <= 2  # before and after; hundreds otherwise
    assert gc.isenabled()


def test_a_token_guards_every_data_route_and_guesses_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "correct horse")
    path = make_file(tmp_path, "CREATE TABLE item (id INTEGER PRIMARY KEY); INSERT INTO item VALUES (1)")
    with client_of(path, write=True, token_env="SHOP_TOKEN", host="0.0.0.0") as client:
        right = {"authorization": "Bearer correct horse"}
        routes = [
            (method, route.replace("{pk}", "1"))
            for route, methods in client.get("/openapi.json").json()["paths"].items()
            for method in methods
        ]
        assert len(routes) >= 6
        for method, route in [*routes, ("head", "/item"), ("options", "/item")]:
            answer = client.request(method, route)
            assert answer.status_code == 401, (method, route)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/item", headers=right).json() == [{"id": 1}]
        assert '<td class="rows">1</td>' not in client.get("/").text
        assert '<td class="rows">1</td>' in client.get("/", headers=right).text
        answers = [client.get("/item", headers={"authorization": f"Bearer {guess}"}) for guess in range(GUESSES + 1)]
        assert [answer.status_code for answer in answers] == [401] * GUESSES + [429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert client.get("/item", headers=right).status_code == 429
        assert client.get("/docs").status_code == 200


def test_postgrest_is_served_by_the_same_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, password TEXT); INSERT INTO item VALUES (1, 'a', 'x');
        CREATE TABLE rest (id TEXT PRIMARY KEY); INSERT INTO rest VALUES ('v1');
        CREATE VIEW names AS SELECT name FROM item; CREATE VIEW broken AS SELECT * FROM nowhere
    """
    path = make_file(tmp_path, script)
    with client_of(path) as client:
        assert client.get("/rest/v1/item").status_code == 404
    with client_of(path, postgrest=True) as client:
        assert client.get("/rest/v1/item").json() == [{"id": 1, "name": "a"}]
        assert client.get("/rest/v1/names").json() == [{"name": "a"}]
        assert client.get("/rest/v1").json() == {"id": "v1"}
        assert client.get("/item/1").status_code == 200
        for name in ("broken", "item"):
            response = client.request("GET" if name == "broken" else "POST", f"/rest/v1/{name}", json={"name": "b"})
            assert (response.status_code, set(response.json())) == (
                500 if name == "broken" else 405,
                {"code", "message", "details", "hint"},
            )
    monkeypatch.setenv("SHOP_TOKEN", "right")
    with client_of(path, postgrest=True, write=True, token_env="SHOP_TOKEN") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert client.get("/rest/v1/item", headers=headers).json()["code"] == "PGRST301"
            assert client.post("/rest/v1/item", headers=headers, json={"name": "b"}).status_code == 401
        right = {"Authorization": "Bearer right", "Prefer": "return=representation"}
        assert client.post("/rest/v1/item", headers=right, json={"name": "b"}).json() == [{"id": 2, "name": "b"}]
        assert client.post("/rest/v1/names", headers=right, json={"name": "b"}).status_code == 405
        assert client.get("/rest/v1/item", headers={**right, "host": "elsewhere"}).status_code == 200


def test_without_a_project_it_asks_for_a_url_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys)
    assert f"No database was found in {tmp_path}." in line
    assert line.endswith("Or give the URL of a database, or the path of a SQLite file.")
    assert "Or give" not in refused(capsys, "--db", "nothing:db")


def test_what_cannot_be_served_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_file(tmp_path)
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"this is no database, however long it may be" * 50)
    missing = tmp_path / "missing.db"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "Nothing can listen" in refused(capsys, str(path), "--port", port)
    free = ("--port", "0")
    assert "There is no file" in refused(capsys, str(missing), *free)
    assert "There is no file" in refused(capsys, f"sqlite:///{missing}", *free)
    assert not missing.exists()
    assert f"{junk} cannot be read: " in (line := refused(capsys, str(junk), *free)) and "not a database" in line
    assert "names no database" in refused(capsys, "mysql://root@127.0.0.1", *free)
    assert "directory" in refused(capsys, str(tmp_path), *free)
    assert "no driver for foo" in refused(capsys, "foo://host/db", *free)
    assert "cannot be read" in refused(capsys, "://", *free)
    assert "no table or view named 'zebra'" in refused(capsys, str(path), "--tables", "item,zebra", *free)
    assert "no table or view named 'zebra'" in refused(capsys, str(path), "--exclude", "zebra", *free)
    assert "no schema 'zoo'" in refused(capsys, str(path), "--schema", "zoo", *free)
    unreachable = refused(capsys, f"postgresql://me:sesame@127.0.0.1:{port}/x", *free)
    assert "sesame" not in unreachable
    assert "memory" in refused(capsys, "sqlite://", *free)
    assert "NO_SUCH_TOKEN" in refused(capsys, str(path), "--token-env", "NO_SUCH_TOKEN", *free)
    assert "--port" in refused(capsys, str(path), "--port", "x")
    assert "--nonsense" in refused(capsys, str(path), "--nonsense")
    assert "0.0.0.0" in refused(capsys, str(path), "--write", "--host", "0.0.0.0", *free)


def test_a_server_without_the_database_is_one_line(
    postgres_url: str, mariadb_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in (postgres_url, mariadb_url):
        assert "does not exist" in (line := refused(capsys, f"{url}_not", "--port", "0")) or "Unknown database" in line


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--debug", "serve", str(tmp_path / "missing.db")]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--host", "--port", "--write", "--tables", "--exclude", "--schema", "--token-env", "--workers"):
        assert option in shown


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path, workers: int) -> None:
    import httpx2

    path = make_file(tmp_path, "CREATE TABLE [a b] (id INTEGER PRIMARY KEY); INSERT INTO [a b] VALUES (1)")
    command = [str(programs() / "fastapi-sqlalchemy"), "serve", str(path)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--workers", str(workers), "--postgrest"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    shown: list[str] = []
    try:
        for line in process.stdout:
            shown.append(line)
            if "startup complete" in line:
                break
        base = next(found for line in shown if (found := line.partition("Start page: ")[2].strip()))
        assert httpx2.get(f"{base}a%20b", timeout=20).json() == [{"id": 1}]
        assert any(line.startswith("/a%20b") for line in shown)
        assert f"PostgREST: {base}rest/v1\n" in shown
        assert httpx2.get(f"{base}rest/v1/a%20b?select=key:id", timeout=20).json() == [{"key": 1}]
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    assert "Traceback" not in "".join(shown) + rest
