"""``fastapi-sqlalchemy shell`` has the project's models loaded and a scope open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_sqlalchemy import SQLAlchemy

db = SQLAlchemy("sqlite:///notes.db")


class Note(db.Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


db.create_all()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def run(project: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastapi_sqlalchemy", *arguments],
        cwd=project,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "IPYTHONDIR": str(project / ".ipython")},
    )


def test_code_sees_the_models_and_a_session_and_only_what_is_committed_stays(project: Path) -> None:
    kept = run(project, "shell", "-c", "db.session.add(Note(text='kept')); db.session.commit()")
    assert (kept.returncode, kept.stderr) == (0, "")
    assert run(project, "shell", "-c", "db.session.add(Note(text='dropped')); db.session.flush()").returncode == 0
    listed = run(project, "shell", "-c", "print([note.text for note in db.session.scalars(select(Note))])")
    assert listed.stdout.strip() == "['kept']"


def test_code_that_raises_ends_with_1_and_one_line_and_with_debug_the_traceback(project: Path) -> None:
    failed = run(project, "shell", "-c", "1 / 0")
    assert failed.returncode == 1
    assert failed.stderr == "fastapi-sqlalchemy: ZeroDivisionError: division by zero\n"
    assert "Traceback" in run(project, "--debug", "shell", "-c", "1 / 0").stderr


def test_lines_of_the_standard_input_are_run_in_one_scope(project: Path) -> None:
    ended = run(project, "shell", stdin="db.session.add(Note(text='a'))\nprint(Note.query.count() + 41)\n")
    assert ended.returncode == 0
    assert "42" in ended.stdout
    assert "Models: Note" in ended.stdout + ended.stderr


def test_a_folder_without_a_database_ends_with_2_and_one_line(tmp_path: Path) -> None:
    ended = run(tmp_path, "shell", "-c", "pass")
    assert ended.returncode == 2
    assert "No database was found" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
