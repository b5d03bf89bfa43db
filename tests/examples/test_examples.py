"""Every example runs under a real uvicorn and does what its document says."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.nursery import python
from tests.support.uvicorn import ROOT, serve_app


def test_users_are_served_without_their_password_on_any_database(database_url: str, tmp_path: Path) -> None:
    with serve_app("examples.users.main:app", tmp_path, environment={"DATABASE_URL": database_url}) as app:
        answer = app.client.get("/users/1")
        assert answer.status_code == 200
        assert answer.json() == {"id": 1, "email": "johndoe@example.com", "is_active": True}
        assert app.client.get("/users/2").status_code == 404
        assert app.client.get("/users/x").status_code == 422
    with serve_app("examples.users.main:app", tmp_path, environment={"DATABASE_URL": database_url}) as app:
        assert app.client.get("/users/1").status_code == 200
        assert app.client.get("/users/2").status_code == 404


def test_a_second_user_with_the_same_address_is_a_conflict(sqlite_url: str, tmp_path: Path) -> None:
    ada = {"name": "Ada", "email": "ada@example.com"}
    with serve_app("examples.course.app.main:app", tmp_path, environment={"DATABASE_URL": sqlite_url}) as app:
        assert app.client.get("/users").json() == []
        assert app.client.post("/users", json=ada).status_code == 201
        conflict = app.client.post("/users", json={**ada, "name": "Another"})
        assert conflict.status_code == 409
        assert conflict.json()["code"] == "unique_violation"
        assert app.client.get("/users").json() == [{"id": 1, **ada}]


@pytest.mark.backends("sqlite", "postgresql")
def test_things_are_listed_read_created_replaced_and_deleted(database_url: str, tmp_path: Path) -> None:
    with serve_app("examples.things.main:app", tmp_path, environment={"DATABASE_URL": database_url}) as app:
        client = app.client
        assert client.post("/things", json={"text": "one"}).json() == {"id": 1, "text": "one"}
        assert client.post("/things", json={"text": "two"}).status_code == 201
        assert [thing["text"] for thing in client.get("/things").json()] == ["one", "two"]
        assert client.put("/things/1", json={"text": "HELLO"}).json() == {"id": 1, "text": "HELLO"}
        assert client.get("/things/1").json()["text"] == "HELLO"
        assert client.delete("/things/2").status_code == 204
        for answer in (client.get("/things/2"), client.delete("/things/2"), client.put("/things/2", json={"text": ""})):
            assert answer.status_code == 404
        assert client.get("/things").json() == [{"id": 1, "text": "HELLO"}]


def test_the_compose_file_is_valid_by_its_schema() -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(ROOT / "examples/things/compose.yaml"),
        ],
        check=True,
    )


def test_the_dockerfile_is_well_formed_and_does_not_run_as_root() -> None:
    from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]  # it has no stubs

    parser = DockerfileParser(str(ROOT / "examples/things"))
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    names = [name for name, _ in steps]
    assert names[0] == "FROM"
    assert parser.baseimage.partition(":")[2] not in ("", "latest")
    assert set(names) <= {
        *("FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"),
    }
    assert [value for name, value in steps if name == "USER"] == ["app"]
    assert names.index("USER") < names.index("CMD")
    assert names.count("CMD") == names.count("HEALTHCHECK") == 1
    for name, value in steps:
        if name == "COPY":
            assert (ROOT / "examples/things" / value.split()[0]).exists()
        if name in ("CMD", "HEALTHCHECK"):
            assert all(isinstance(word, str) for word in json.loads(value[value.index("[") :]))


def test_the_image_holds_what_the_application_needs(tmp_path: Path) -> None:
    """The steps of the Dockerfile by hand: the files it copies, in a folder of their own, with its command."""
    folder = ROOT / "examples/things"
    for name in ("main.py", "requirements.txt"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "data").mkdir()
    wanted = {line.partition("[")[0].partition(">")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert wanted == {"fastapi-sqlalchemy", "uvicorn"}
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'data' / 'things.sqlite3'}"}
    with serve_app("main:app", tmp_path, environment=environment, arguments=("--app-dir", str(tmp_path))) as app:
        assert app.client.get("/health/ready").status_code == 200
        assert app.client.post("/things", json={"text": "kept"}).status_code == 201
    assert (tmp_path / "data" / "things.sqlite3").exists()


def test_one_database_is_queried_and_saved_to_in_plain_routes(sqlite_url: str, tmp_path: Path) -> None:
    ada = {"name": "Ada", "email": "ada@example.com"}
    with serve_app("examples.single_db.main:app", tmp_path, environment={"DATABASE_URL": sqlite_url}) as app:
        assert app.client.post("/add_user", json=ada).json() == {"message": "User created successfully"}
        assert app.client.get("/users").json() == [{"id": 1, **ada}]
        assert app.client.get("/users/1").json() == {"id": 1, **ada}
        assert app.client.get("/users/9").status_code == 404


def test_two_databases_keep_their_rows_apart(tmp_path: Path) -> None:
    environment = {
        "USER_DATABASE_URL": f"sqlite:///{tmp_path / 'users.db'}",
        "POST_DATABASE_URL": f"sqlite:///{tmp_path / 'posts.db'}",
    }
    with serve_app("examples.multi_db.main:app", tmp_path, environment=environment) as app:
        client = app.client
        client.post("/add_user", json={"name": "Ada", "email": "ada@example.com"})
        post = {"user_id": 1, "title": "Hello", "content": "World"}
        assert client.post("/add_post", json=post).status_code == 200
        assert client.post("/add_post", json={**post, "user_id": 2}).status_code == 404
        assert client.post("/update_user", json={"id": 1, "name": "Grace"}).status_code == 200
        assert client.get("/users").json() == [{"id": 1, "name": "Grace", "email": "ada@example.com"}]
        assert client.get("/posts", params={"user_id": 1}).json() == [{"id": 1, **post}]


def test_code_for_the_older_library_keeps_working(sqlite_url: str, tmp_path: Path) -> None:
    ada = {"name": "Ada", "email": "ada@example.com"}
    with serve_app("examples.legacy.main:app", tmp_path, environment={"DATABASE_URL": sqlite_url}) as app:
        app.client.post("/add_user", json=ada)
        assert app.client.get("/users").json() == [{"id": 1, **ada}]


def test_a_model_base_of_ones_own_serves_every_model(sqlite_url: str, tmp_path: Path) -> None:
    with serve_app("examples.custom_base.main:app", tmp_path, environment={"DATABASE_URL": sqlite_url}) as app:
        first = app.client.post("/tags", json={"name": "red"}).json()
        assert app.client.post("/tags", json={"name": "red"}).json() == first
        assert app.client.get("/tags").json() == [first]


def test_the_scheduled_task_is_really_fired(sqlite_url: str, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": sqlite_url, "COUNT_EVERY": "0.2"}
    with serve_app("examples.scheduled.main:app", tmp_path, environment=environment) as app:
        app.client.post("/users", params={"name": "Ada"})
        give_up = time.monotonic() + 10
        counts: list[int] = []
        while 1 not in counts and time.monotonic() < give_up:
            counts = [row["count"] for row in app.client.get("/counts").json()]
        assert 1 in counts
        assert "Traceback" not in app.log.read_text()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[httpx2.Client, list[str]]]:
    """The demo on a free port, with what it printed before it served."""
    with demo_process(tmp_path, port="0", output=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(8)]
        base = next(line.split()[-1] for line in lines if line.startswith("App"))
        with httpx2.Client(base_url=base, timeout=30) as client:
            yield client, lines


@contextmanager
def demo_process(folder: Path, *, port: str, output: int | None = None) -> Generator[subprocess.Popen[str]]:
    environment = {**os.environ, "PORT": port, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    environment.pop("DATABASE_URL", None)
    process = subprocess.Popen(
        [python(), "-m", "examples.demo"],
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def test_the_demo_says_where_it_is_and_serves_rows_of_all_three(demo: tuple[httpx2.Client, list[str]]) -> None:
    client, lines = demo
    base = str(client.base_url).rstrip("/")
    assert [line.split()[-1] for line in lines if "http" in line] == [base, f"{base}/docs", f"{base}/health/ready"]
    assert client.get("/health/ready").json() == {"status": "ready", "databases": {"sqlite": "ok"}}
    assert {"/users", "/items", "/things"} <= set(client.get("/openapi.json").json()["paths"])
    assert client.get("/docs").status_code == 200
    for path in ("/users", "/items", "/things"):
        assert len(client.get(path).json()) >= 3
    assert "hashed_password" not in client.get("/users", params={"include": "items"}).text


def test_the_demos_start_page_leads_to_routes_that_answer(demo: tuple[httpx2.Client, list[str]]) -> None:
    client, _ = demo
    page = client.get("/").text
    assert "3 users, 5 items, 3 things" in page
    assert client.base_url.netloc.decode() in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    links = [html.unescape(link) for link in re.findall(r'href="(/[^"]*)"', page)]
    assert len(links) > 8
    for link in links:
        expected = {"/items?colour=red": 422, "/things/999": 404}.get(link, 200)
        assert client.get(link).status_code == expected, link


def test_the_demo_can_be_changed_and_keeps_its_rows(demo: tuple[httpx2.Client, list[str]], tmp_path: Path) -> None:
    client, _ = demo
    assert client.post("/things", json={"text": "mine"}).json() == {"id": 4, "text": "mine"}
    assert client.put("/things/4", json={"text": "still mine"}).json()["text"] == "still mine"
    assert client.delete("/things/1").status_code == 204
    assert client.patch("/items/1", json={"price": "14.00"}).json()["price"] == "14.00"
    with demo_process(tmp_path, port=str(client.base_url.port)) as second:
        _, complaint = second.communicate(timeout=20)
    assert second.returncode == 1
    assert complaint.count("\n") == 1
    assert str(client.base_url.port) in complaint
    assert "PORT=" in complaint
    assert (tmp_path / ".demo" / "demo.db").exists()


def test_a_port_that_is_no_port_is_refused_in_one_line(tmp_path: Path) -> None:
    with demo_process(tmp_path, port="http") as process:
        _, complaint = process.communicate(timeout=20)
    assert process.returncode == 1
    assert complaint == "PORT is a number from 0 to 65535, not 'http'.\n"
