"""Nothing that a user can name is without documentation: settings, flags, variables, errors, public names, limits."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fastapi_sqlalchemy import DBSessionMiddleware, Replica, SQLAlchemy, config, exceptions
from fastapi_sqlalchemy.admin.location import VARIABLE
from fastapi_sqlalchemy.rest import CRUDRouter
from fastapi_sqlalchemy.rest.query.kinds import OPERATORS
from fastapi_sqlalchemy.rest.query.settings import QuerySettings
from fastapi_sqlalchemy.rest.route import MAX_BODY
from fastapi_sqlalchemy.web import sqlstate
from tools import reference

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fastapi_sqlalchemy"
REFERENCE = ROOT / "docs" / "reference"
SETTINGS = (REFERENCE / "settings.md").read_text()
HTTP = (REFERENCE / "http.md").read_text()
API = "\n".join(path.read_text() for path in (REFERENCE / "api").glob("*.md"))
EXCEPTIONS = [
    name
    for name in exceptions.__all__
    if isinstance(getattr(exceptions, name), type) and getattr(exceptions, name).__name__ == name
]


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found.group(1)


def rows(text: str) -> dict[str, str]:
    """The rows of a table by their first cell, which is code; several names in one cell count each."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and cells[0].startswith("`"):
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1] if len(cells) > 1 else "")
    return found


def parameters(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "app") and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def test_every_option_of_a_database_is_documented_with_its_default() -> None:
    documented = rows(section(SETTINGS, "The database"))
    options = parameters(SQLAlchemy.__init__)
    assert documented.keys() == options.keys()
    plain = {name: value for name, value in options.items() if isinstance(value, (bool, int, float))}
    assert {name: documented[name].strip("`") for name in plain} == {name: str(value) for name, value in plain.items()}
    assert set(config.DatabaseOptions.__annotations__) - options.keys() == set()


def test_every_key_of_the_sqlite_settings_is_documented_with_its_default() -> None:
    documented = rows(section(SETTINGS, "SQLite"))
    assert {key: ast.literal_eval(value.strip("`")) for key, value in documented.items()} == config.SQLITE_DEFAULTS


def test_every_option_of_a_replica_is_documented() -> None:
    assert rows(section(SETTINGS, "Replicas")).keys() == {field.name for field in dataclasses.fields(Replica)}


def test_every_option_of_the_middleware_is_documented() -> None:
    own = parameters(DBSessionMiddleware.__init__).keys() - parameters(SQLAlchemy.__init__).keys()
    assert own <= rows(section(SETTINGS, "The middleware")).keys() <= parameters(DBSessionMiddleware.__init__).keys()


def test_every_option_of_a_router_is_documented_with_its_default() -> None:
    documented, options = rows(section(SETTINGS, "Generated routes")), parameters(CRUDRouter.__init__)
    assert documented.keys() == options.keys()
    plain = {name: value for name, value in options.items() if isinstance(value, (bool, int, str))}
    assert {name: documented[name].strip('`"') for name in plain} == {name: str(value) for name, value in plain.items()}


def test_every_environment_variable_is_documented() -> None:
    asked = {VARIABLE, *(name.upper() for name in config._Environment.model_fields)}
    for path in SOURCE.rglob("*.py"):
        asked |= set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", path.read_text()))
    assert rows(section(SETTINGS, "Environment")).keys() == asked


def test_every_key_of_pyproject_is_documented() -> None:
    texts = [path.read_text() for path in SOURCE.rglob("*.py")]
    source = "\n".join(text for text in texts if "project_settings" in text)
    read = set(re.findall(r"settings(?:\(root\))?(?:\.get\(|\[)\"([a-z_]+)\"", source))
    assert rows(section(SETTINGS, "pyproject.toml")).keys() == read


def test_every_command_and_option_is_documented() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run: make reference"


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_has_a_page_and_leads_to_it(name: str) -> None:
    kind = getattr(exceptions, name)
    assert kind.page() == f"reference/errors/{name}.md"
    text = (ROOT / "docs" / kind.page()).read_text()
    assert text.startswith(f"# {name}\n") and "## Why\n" in text and "## Cure\n" in text
    assert f"| [{name}]({name}.md) |" in (REFERENCE / "errors/index.md").read_text()


def test_an_error_of_a_users_own_leads_to_the_page_of_its_base() -> None:
    class Mine(exceptions.MissingSessionError):
        pass

    assert Mine.page() == "reference/errors/MissingSessionError.md"


def codes() -> set[str]:
    """The codes of the problems that the package makes, by name: ``code="..."`` and the causes of database errors."""
    found = {cause.code for cause in vars(sqlstate).values() if isinstance(cause, sqlstate.Cause)}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").lower() in ("problem", "unready"):
                found |= {
                    keyword.value.value
                    for keyword in node.keywords
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
                }
    return found


def test_every_problem_code_has_a_page() -> None:
    index = (REFERENCE / "errors/index.md").read_text()
    pages = {path.stem for path in (REFERENCE / "errors").glob("*.md")} - {"index", *EXCEPTIONS}
    assert pages == codes()
    for code in pages:
        text = (REFERENCE / f"errors/{code}.md").read_text()
        assert text.startswith(f"# {code}\n\nStatus ") and "## Why\n" in text and "## Cure\n" in text
        assert f"| [{code}]({code}.md) |" in index


def test_every_operator_is_documented() -> None:
    assert rows(section(HTTP, "Filters")).keys() == set(OPERATORS) - {"eq"}


def test_every_limit_is_documented() -> None:
    text = section(HTTP, "Limits")
    limits = {
        field.default for field in dataclasses.fields(QuerySettings) if field.name.startswith("max_") and field.default
    }
    documented = {
        int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+)(?: \(.*?\))? \|$", text, re.MULTILINE)
    }
    assert documented == limits | {MAX_BODY}


PACKAGES = [
    "fastapi_sqlalchemy",
    *(
        f"fastapi_sqlalchemy.{name}"
        for name in ("admin", "migrations", "models", "models.mixins", "models.types", "rest", "testing", "transfer")
    ),
]
DOCUMENTED = dict.fromkeys(re.findall(r"^::: ([\w.]+)$", API, re.MULTILINE))


@pytest.mark.parametrize("module", PACKAGES)
def test_every_public_name_is_documented(module: str) -> None:
    found = importlib.import_module(module)
    names = [name for name in found.__all__ if name not in ("db", "__version__", *EXCEPTIONS)]
    missing = [name for name in names if not any(getattr(found, name) is thing for thing in documented_things())]
    assert not missing, f"{module}: {missing} are in no page of docs/reference/api"


@functools.cache
def documented_things() -> tuple[Any, ...]:
    """What the pages of the API show; of a module, itself and all of its public names."""
    found: list[Any] = []
    for name in DOCUMENTED:
        module, _, attribute = name.rpartition(".")
        try:
            whole = importlib.import_module(name)
        except ModuleNotFoundError:
            found.append(getattr(importlib.import_module(module), attribute))
        else:
            found += [whole, *(getattr(whole, public) for public in whole.__all__)]
    return tuple(found)


def test_what_the_documentation_and_the_examples_import_is_documented() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py")]:
        imports = re.findall(
            r"^from (fastapi_sqlalchemy[\w.]*) import (?:\(([^)]+)\)|([^(\n]+))$", path.read_text(), re.MULTILINE
        )
        for module, *names in imports:
            for name in re.findall(r"(\w+)(?: as \w+)?", re.sub(r"#.*", "", "".join(names))):
                thing = getattr(importlib.import_module(module), name)
                known = name in ("db", *EXCEPTIONS) or any(thing is each for each in documented_things())
                assert known, f"{path.name} imports {name} from {module}, which is in no page of docs/reference/api"
