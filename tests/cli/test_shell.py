"""``fastapi-sqlalchemy shell`` has the project's models loaded and a scope open."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import nursery

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
    return python(project, "-m", "fastapi_sqlalchemy", *arguments, stdin=stdin)


def python(project: Path, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [nursery.python(), *arguments],
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


def test_code_may_await_and_sees_one_async_session(project: Path) -> None:
    kept = run(
        project,
        "shell",
        "-c",
        "db.async_session.add(Note(text='kept'))\nawait db.async_session.commit()\n"
        "print((await Note.aget(1)).text, Note.query.count())",
    )
    assert (kept.returncode, kept.stdout, kept.stderr) == (0, "kept 1\n", "")
    dropped = "db.async_session.add(Note(text='dropped')); await db.async_session.flush()"
    assert run(project, "shell", "-c", dropped).returncode == 0
    assert run(project, "shell", "-c", "print(Note.query.count())").stdout == "1\n"
    failed = run(project, "shell", "-c", "await Note.aget_or_404(7); print('not here')")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert len(failed.stderr.splitlines()) == 1


def test_nothing_is_committed_by_itself_though_the_database_commits_on_exit(project: Path) -> None:
    (project / "main.py").write_text(APP.replace('notes.db"', 'notes.db", commit_on_exit=True'))
    assert run(project, "shell", "-c", "db.session.add(Note(text='dropped'))").returncode == 0
    assert run(project, "shell", "-c", "print(Note.query.count())").stdout == "0\n"


WITHOUT_IPYTHON = """
import sys
sys.modules["IPython"] = None
from fastapi_sqlalchemy.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [("-m", "fastapi_sqlalchemy"), ("-c", WITHOUT_IPYTHON)], ids=["IPython", "Python"]
)
def test_lines_of_the_standard_input_are_run_in_one_scope(project: Path, arguments: tuple[str, ...]) -> None:
    lines = "db.session.add(Note(text='a'))\nprint(Note.query.count() + 41)\ndb.session.rollback()\n"
    lines += "session = db.async_session\nawait session.scalar(text('SELECT 1')) + 42\n"
    lines += "print(len((await session.scalars(select(Note))).all()) + 44)\n"
    ended = python(project, *arguments, "shell", stdin=lines)
    assert ended.returncode == 0
    assert "42" in ended.stdout
    assert "43" in ended.stdout
    assert "44" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Models: Note" in ended.stdout + ended.stderr
    assert ("In [1]" in ended.stdout) == (arguments[0] == "-m")


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own is a thing of POSIX")
def test_at_a_terminal_ipython_has_the_models_and_what_is_not_committed_is_rolled_back(project: Path) -> None:
    pexpect: Any = importlib.import_module("pexpect")
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "fastapi_sqlalchemy", "shell"],
        cwd=project,
        env={**os.environ, "IPYTHONDIR": str(project / ".ipython"), "IPY_TEST_SIMPLE_PROMPT": "1"},
        encoding="utf-8",
        timeout=60,
    )
    try:
        terminal.expect(r"Models: Note\r\n")
        terminal.expect(r"In \[1\]: ")
        terminal.sendline("db.session.add(Note(text='dropped')); Note.query.count() + 41")
        terminal.expect(r"Out\[1\]: 42")
        terminal.expect(r"In \[2\]: ")
        terminal.sendline("exit()")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close()
    assert terminal.exitstatus == 0
    assert run(project, "shell", "-c", "print(Note.query.count())").stdout == "0\n"


def test_a_folder_without_a_database_ends_with_2_and_one_line(tmp_path: Path) -> None:
    ended = run(tmp_path, "shell", "-c", "pass")
    assert ended.returncode == 2
    assert "No database was found" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
