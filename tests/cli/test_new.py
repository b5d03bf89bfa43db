"""``fastapi-sqlalchemy new`` makes a project that passes its own tests in a fresh environment, and serves."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from dockerfile_parse import DockerfileParser

from fastapi_sqlalchemy.cli import run
from tests.support.environments import make_environment
from tests.support.nursery import Nursery

FORMS = [(layout, kind) for layout in ("flat", "domain") for kind in ("async", "sync")]

pytestmark = pytest.mark.xdist_group("new")


def call(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without what the environment of these tests says about databases."""
    unwanted = ("DATABASE_URL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    own = {name: value for name, value in os.environ.items() if name not in unwanted}
    return subprocess.run(
        command, cwd=folder, env={**own, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment: the package with what a generated project asks for, and nothing of ours."""
    folder = tmp_path_factory.mktemp("fresh")
    made = folder / "made"
    assert run(["new", str(made)]) == 0
    project = tomllib.loads((made / "pyproject.toml").read_text())
    of_tests = [name for name in project["dependency-groups"]["dev"] if not name.startswith(("mypy", "ruff"))]
    return make_environment(folder, [*project["project"]["dependencies"], *of_tests])


@pytest.fixture(scope="module")
def forked(fresh: Path) -> Iterator[Path]:
    """The same programs, forked from one Python of that environment."""
    nursery = Nursery(fresh / "python")
    yield nursery.folder
    nursery.close()


@pytest.fixture(scope="module")
def projects(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A project of each form, made by the installed command, so that its templates are known to be in the package."""
    folder = tmp_path_factory.mktemp("projects")
    commands = {form: ["new", "-".join(form), "--layout", form[0], f"--{form[1]}"] for form in FORMS}
    script = f"from fastapi_sqlalchemy.cli import run; assert not any(map(run, {list(commands.values())}))"
    done = call(folder, str(fresh / "python"), "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    return {form: folder / command[1] for form, command in commands.items()}


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_a_new_project_passes_its_own_tests(
    projects: dict[tuple[str, str], Path], form: tuple[str, str], forked: Path
) -> None:
    done = call(projects[form], str(forked / "python"), "-m", "pytest", "-q")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^11 passed", done.stdout, re.MULTILINE), done.stdout


def test_it_passes_them_on_postgresql_too(
    projects: dict[tuple[str, str], Path], fresh: Path, postgres_url: str
) -> None:
    project = projects["domain", "async"]
    done = call(project, str(fresh / "python"), "-m", "pytest", "-q", TEST_DATABASE_URL=postgres_url)
    assert done.returncode == 0, done.stdout


def test_it_asks_for_a_pip_that_knows_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", str(tmp_path / "shop")]) == 0
    for told in (capsys.readouterr().out, (tmp_path / "shop" / "README.md").read_text()):
        newer_pip, project = told.index('pip install --upgrade "pip>=25.1"'), told.index("pip install -e . --group dev")
        assert newer_pip < project


@pytest.fixture
def served(projects: dict[tuple[str, str], Path], fresh: Path, forked: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    """A project that was migrated, under uvicorn."""
    project = projects["flat", "sync"]
    url = f"sqlite:///{tmp_path / 'app.db'}"
    upgraded = call(project, str(fresh / "fastapi-sqlalchemy"), "db", "upgrade", DATABASE_URL=url)
    assert (upgraded.returncode, upgraded.stderr) == (0, "")
    checked = call(project, str(forked / "fastapi-sqlalchemy"), "db", "check", DATABASE_URL=url)
    assert (checked.returncode, checked.stdout) == (0, "db: in order\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [fresh / "uvicorn", "app.main:app", "--port", str(port)],
        cwd=project,
        env={**os.environ, "DATABASE_URL": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        told = ""
        while "Uvicorn running" not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_it_serves_after_its_migrations(served: httpx2.Client) -> None:
    assert served.get("/health/ready").json()["status"] == "ready"
    made = served.post("/books", json={"title": "Notes", "isbn": "9780306406157", "author": "Ada"})
    assert made.status_code == 201
    assert [author["name"] for author in served.get("/authors").json()] == ["Ada"]
    assert served.get(f"/books/{made.json()['id']}").json() == made.json()


def test_it_does_not_serve_a_database_that_a_migration_is_missing_on(
    projects: dict[tuple[str, str], Path], forked: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    done = call(projects["flat", "async"], str(forked / "uvicorn"), "app.main:app", "--port", "0", DATABASE_URL=url)
    assert done.returncode != 0
    assert "Run: fastapi-sqlalchemy db upgrade" in done.stderr


def test_its_routes_are_listed(projects: dict[tuple[str, str], Path], forked: Path) -> None:
    done = call(projects["domain", "async"], str(forked / "fastapi-sqlalchemy"), "routes", "--json")
    sessions = {line["path"]: line["session"] for line in json.loads(done.stdout)["routes"]}
    assert (sessions["/authors"], sessions["/books"]) == ("CRUDRouter", "dependency, async")


@pytest.mark.parametrize("layout", ["flat", "domain"])
def test_its_readme_and_dockerfile_name_files_that_are_there(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    assert run(["new", str(folder), "--layout", layout, "--sync"]) == 0
    named = re.findall(r"`((?:app|migrations)/[\w/.]*)`", (folder / "README.md").read_text())
    assert len(named) >= 5
    docker = DockerfileParser(path=str(folder / "Dockerfile"))
    copied = [line["value"].split()[:-1] for line in docker.structure if line["instruction"] == "COPY"]
    for name in [*named, *(part for parts in copied for part in parts)]:
        assert (folder / name).exists(), name
    assert "USER" in [line["instruction"] for line in docker.structure]


def test_what_was_written_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", str(tmp_path / "shop"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "shop")
    there = [
        path.relative_to(tmp_path / "shop").as_posix() for path in (tmp_path / "shop").rglob("*") if path.is_file()
    ]
    assert sorted(told["files"]) == sorted(there)
    assert {".env.example", ".gitignore", "Dockerfile", "alembic.ini", "app/models.py"} <= set(there)


def test_two_projects_have_first_revisions_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(["new", str(tmp_path / name)]) == 0
    names = {path.name for path in tmp_path.glob("*/migrations/versions/*_authors_and_books_*.py")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("full", "has something in it"),
        ("file", "is a file"),
        ("-x y-", "is no name of a project"),
        ("żółw", "is no name of a project"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_2_and_nothing_is_written(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "here").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert run(["new", "--", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_empty_is_taken_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    assert run(["new", "."]) == 0
    assert tomllib.loads(Path("pyproject.toml").read_text())["project"]["name"] == "shop"
