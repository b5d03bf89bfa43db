"""The documents' own snippets, run on this package unchanged, save for the snippets' own faults, each named here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.nursery import python

ROOT = Path(__file__).parents[1]
SEEDS = ROOT.parent / "shared" / "seeds"

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="THE SEED DOCUMENTS ARE NOT HERE (../shared/seeds)")


def document(number: str) -> str:
    return next(SEEDS.glob(f"{number}_*.txt")).read_text()


def between(text: str, start: str, end: str) -> str:
    begin = text.index(start)
    return text[begin : text.index(end, begin)]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"``` ?python\n(.*?)```", text, re.DOTALL)


def mended(code: str, *faults: tuple[str, str, str]) -> str:
    """The snippet without its own faults: (what is wrong, the text, what it means)."""
    for reason, wrong, right in faults:
        assert wrong in code, f"the document no longer has the fault: {reason}"
        code = code.replace(wrong, right)
    return code


def run(folder: Path, files: dict[str, str], driver: str) -> None:
    """Write the files and run the driver beside them, in a process of its own."""
    for name, code in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(code)
    done = subprocess.run(
        [python(), "-c", driver],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "src")))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


ADD_AND_LIST = """
from fastapi.testclient import TestClient
import main
ada = {"name": "Ada", "email": "ada@example.com"}
with TestClient(main.app) as client:
    assert client.post("/add_user", json=ada).json() == {"message": "User created successfully"}
    assert client.get("/users").json() == [{"id": 1, **ada}]
"""

RETURN_USERS = ("`users` is defined nowhere (NameError)", "    return users", "    return None")


WHOLE_000 = ("from fastapi import FastAPI\nfrom sqlalchemy import Boolean", "    return response\n")


def test_the_first_document_reads_its_first_user_in_our_session(tmp_path: Path) -> None:
    text = document("000")
    start, end = WHOLE_000
    copies = [f"{start}{rest.partition(end)[0]}{end}" for rest in text.split(start)[1:]]
    assert len(copies) > 1
    assert len(set(copies)) == 1  # the document repeats its one program, with other lines highlighted
    driver = """
from fastapi.testclient import TestClient
import main
from fastapi_sqlalchemy import DBSessionMiddleware, Session, SQLAlchemy
db = SQLAlchemy(custom_engine=main.engine)
used = []
def session_of_the_request():
    used.append(db.session)
    return db.session
main.Session = session_of_the_request
main.app.add_middleware(DBSessionMiddleware, db=db)
with TestClient(main.app) as client:
    assert client.get("/users/1").json() == {
        "id": 1, "email": "johndoe@example.com", "hashed_password": "notreallyhashed", "is_active": True,
    }
    assert client.get("/users/2").json() is None  # a fault that the document leaves to its reader, as the password
assert len(used) == 2 and used[0] is not used[1] and isinstance(used[0], Session)
"""
    run(tmp_path, {"main.py": copies[0]}, driver)


def test_the_second_document_lists_its_users_in_our_session(tmp_path: Path) -> None:
    text = document("002")
    routes = "\n".join(
        (
            between(text, "from typing import Generator", "Use the dependency in a route:"),
            between(text, '@app.get("/users")', "FastAPI opens the session"),
        )
    )
    step_by_step = "\n".join(
        (
            between(text, "from sqlalchemy import create_engine", "For SQLite, check_same_thread"),
            between(text, "from sqlalchemy.orm import sessionmaker", "SessionLocal is a factory"),
            between(text, "from sqlalchemy.orm import DeclarativeBase\n", "Every model class that inherits"),
            between(text, "from sqlalchemy import Integer, String\n", "__tablename__ is the database table name"),
            between(text, "Base.metadata.create_all(bind=engine)", "A complete minimal example"),
            "from fastapi import FastAPI\napp = FastAPI()",
        )
    )
    complete = between(text, "from fastapi import FastAPI\nfrom sqlalchemy import Integer", "For production projects")
    driver = """
import importlib
from fastapi.testclient import TestClient
from fastapi_sqlalchemy import SQLAlchemy
for name in ("steps", "complete"):
    program = importlib.import_module(name)
    db = SQLAlchemy(custom_engine=program.engine)
    program.app.dependency_overrides[program.get_db] = db.get_session
    with db(commit_on_exit=True):
        db.session.query(program.User).delete()
        db.session.add(program.User(name="Ada", email="ada@example.com"))
    assert TestClient(program.app).get("/users").json() == [{"id": 1, "name": "Ada", "email": "ada@example.com"}]
"""
    run(tmp_path, {"steps.py": f"{step_by_step}\n{routes}", "complete.py": f"{complete}\n{routes}"}, driver)


def test_the_second_document_keeps_its_three_files(tmp_path: Path) -> None:
    text = document("002")
    files = text[text.index("Suggested File Structure") :]
    app = {
        "app/__init__.py": "",
        "app/database.py": between(files, "from sqlalchemy import create_engine", "models.py:"),
        "app/models.py": between(files, "from sqlalchemy import Integer", "main.py:"),
        "app/main.py": between(files, "from fastapi import FastAPI", "Importing models ensures"),
    }
    driver = """
from fastapi.testclient import TestClient
from app import main, models
from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
db = SQLAlchemy(custom_engine=main.engine)
main.app.add_middleware(DBSessionMiddleware, db=db)

@main.app.get("/users")
def list_users():
    return db.session.query(models.User).all()

with db(commit_on_exit=True):
    db.session.add(models.User(name="Ada", email="ada@example.com"))
with TestClient(main.app) as client:
    assert client.get("/users").json() == [{"id": 1, "name": "Ada", "email": "ada@example.com"}]
"""
    run(tmp_path, app, driver)


def test_the_third_document_creates_reads_replaces_and_deletes_in_our_session(tmp_path: Path) -> None:
    text = document("003")
    whole = between(text, "import typing\nimport pathlib", "container/src/main.py")
    excerpts = text.split(whole)[1].split("container/src/main.py")[1:-1]
    assert len(excerpts) >= 10
    for excerpt in excerpts:  # the parts that the document explains one by one are those of its whole program
        assert "\n".join(excerpt.rstrip().splitlines()[-3:]) in whole
    code = mended(
        whole,
        ("the folder /opt/data belongs to the image", '"/opt/data"', f'"{tmp_path}/data"'),
        ("the file lies in that folder", "////opt/data/db.sqlite3", f"///{tmp_path}/data/db.sqlite3"),
        (
            "`id` is optional by its text and required by its type",
            "typing.Optional[int]",
            "typing.Optional[int] = None",
        ),
    )
    driver = """
from fastapi.testclient import TestClient
import main
from fastapi_sqlalchemy import SQLAlchemy
db = SQLAlchemy(async_custom_engine=main.engine)
main.app.dependency_overrides[main.get_async_session] = db.get_async_session
with TestClient(main.app, raise_server_exceptions=False) as client:
    for text in ("one", "two", "three"):
        assert client.post("/things", json={"text": text}).status_code == 200
    assert [thing["id"] for thing in client.get("/things").json()] == [1, 2, 3]
    assert client.get("/things/2").json() == {"id": 2, "text": "two"}
    assert client.delete("/things/2").status_code == 200
    assert client.put("/things/3", json={"text": "HELLO WORLD"}).status_code == 200
    assert client.get("/things").json() == [{"id": 1, "text": "one"}, {"id": 3, "text": "HELLO WORLD"}]
    # an absent thing is the document's own fault: null, and an AttributeError
    assert client.get("/things/2").json() is None
    assert client.put("/things/2", json={"text": "x"}).status_code == 500
"""
    run(tmp_path, {"main.py": code}, driver)


def test_the_fourth_document_queries_and_saves_inside_of_a_route(tmp_path: Path) -> None:
    models, main = python_blocks(document("004"))[:2]
    run(tmp_path, {"models.py": models, "main.py": main}, ADD_AND_LIST)


def test_the_fourth_document_counts_users_outside_of_a_route(tmp_path: Path) -> None:
    models, _, task = python_blocks(document("004"))[:3]
    count = """
class UserCount(db.Base):
    id = Column(Integer, primary_key=True)
    count = Column(Integer)
"""
    main = mended(
        task,
        ("UserCount is imported from nowhere", "from models import User, db", "from models import User, UserCount, db"),
        ("a mapped class takes no positional arguments", "UserCount(user_count)", "UserCount(count=user_count)"),
        RETURN_USERS,
    )
    driver = """
from fastapi.testclient import TestClient
import main, models
with TestClient(main.app):
    main.count_users_task()
with models.db():
    assert [row.count for row in models.UserCount.query] == [0]
"""
    run(tmp_path, {"models.py": models + count, "main.py": main}, driver)


def test_the_fourth_document_extends_the_model_base(tmp_path: Path) -> None:
    base = python_blocks(document("004"))[3]
    models = f"""
from sqlalchemy import Integer, String
from fastapi_sqlalchemy import SQLAlchemy
{base}
db = SQLAlchemy("sqlite:///example.db")
class User(BaseModel, db.Base):
    id = Column(Integer, primary_key=True)
    name = Column(String)
"""
    driver = """
from models import User, db
db.create_all()
with db():
    ada = User.new(name="Ada")
    assert User.get(name="Ada") is ada and User.get(name="Bob") is None
    assert ada.update(name="Grace") is ada
    assert [user.name for user in User.get_all()] == ["Grace"]
"""
    run(tmp_path, {"models.py": models}, driver)


def test_the_fourth_document_keeps_its_older_style(tmp_path: Path) -> None:
    models, main = python_blocks(document("004"))[4:6]
    driver = """
from fastapi.testclient import TestClient
from app import models
import main
with TestClient(main.app) as client:
    assert client.get("/users").json() == []  # the tables are there, though the models hang on an object of their own
    with models.db():
        models.User.new(name="Ada", email="ada@example.com")
    assert client.get("/users").json() == [{"id": 1, "name": "Ada", "email": "ada@example.com"}]
"""
    run(tmp_path, {"app/__init__.py": "", "app/models.py": models, "main.py": main}, driver)


def test_the_fourth_document_counts_users_in_its_older_style(tmp_path: Path) -> None:
    models, _, task = python_blocks(document("004"))[4:7]
    count = """
class UserCount(db.Base):
    id = Column(Integer, primary_key=True)
    count = Column(Integer)
"""
    main = mended(
        task,
        (
            "the middleware is imported from nowhere",
            "from fastapi_sqlalchemy import db",
            "from fastapi_sqlalchemy import DBSessionMiddleware, db",
        ),
        ("a mapped class takes no positional arguments", "UserCount(user_count)", "UserCount(count=user_count)"),
        RETURN_USERS,
    )
    driver = """
from fastapi.testclient import TestClient
from app import models
import main
with TestClient(main.app):
    main.count_users_task()
with models.db():
    assert [row.count for row in models.UserCount.query] == [0]
"""
    run(tmp_path, {"app/__init__.py": "", "app/models.py": models + count, "main.py": main}, driver)
