"""Finds the databases and the application of a project: named by hand, in pyproject.toml, or where they usually are."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fastapi import FastAPI

from .database import SQLAlchemy
from .database import db as module_level
from .exceptions import ConfigurationError, FastAPISQLAlchemyError

__all__ = ["FoundDatabase", "find_app", "find_databases", "import_object", "project_root", "project_settings"]

PLACES = ("main", "app", "api", "database", "db", "models", "app.main", "app.app", "app.database", "app.db")
"""Modules that are looked through, in this order, where nothing names the database."""

APP_PLACES = ("main", "app", "api", "app.main", "app.app", "app.api")
"""The same for the application; they are those of the ``fastapi`` command."""


@dataclass(frozen=True)
class FoundDatabase:
    """A database of a project: ``name`` is that of its variable, ``spec`` how it is imported, "module:variable"."""

    name: str
    spec: str
    db: SQLAlchemy


def project_root(folder: Path | None = None) -> Path:
    """Return the nearest folder, from ``folder`` (by default the current one) upwards, that has a pyproject.toml."""
    start = (folder or Path.cwd()).resolve()
    for candidate in (start, *start.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate
    return start


def project_settings(root: Path, tool: str = "fastapi-sqlalchemy") -> Mapping[str, Any]:
    """Return the table ``[tool.fastapi-sqlalchemy]`` of a project, or that of another tool; empty where there is none.

    Raises `ConfigurationError` where the file is no TOML.
    """
    file = root / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        read = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    found = read.get("tool", {}).get(tool, {})
    return found if _is_mapping(found) else {}


def find_databases(spec: str | Sequence[str] | None = None, *, folder: Path | None = None) -> list[FoundDatabase]:
    """Return the databases of the project in ``folder``, by default the current one, with their models imported.

    ``spec`` is "module:variable", or several with commas between; without it ``[tool.fastapi-sqlalchemy] db`` of
    pyproject.toml is asked, then the usual places. ``[tool.fastapi-sqlalchemy] models`` lists more modules to import.
    Raises `ConfigurationError` with what to do where nothing is found.
    """
    root = project_root(folder)
    _make_importable(root)
    settings = project_settings(root)
    specs = _specs(spec if spec is not None else settings.get("db"))
    found = [item for text in specs for item in _named(text)] if specs else _looked_for(root)
    for name in _specs(settings.get("models")):
        _import(name)
    for item in found:
        _import_models(item.spec.partition(":")[0])
        if not item.db.initiated:
            item.db.init()
    return found


def find_app(spec: str | None = None, *, folder: Path | None = None) -> tuple[str, FastAPI]:
    """Return the application of the project in ``folder``, by default the current one, and how it is imported.

    ``spec`` is "module:variable", of a FastAPI object or a function that makes one; without it
    ``[tool.fastapi-sqlalchemy] app`` of pyproject.toml is asked, then ``[tool.fastapi] entrypoint``, which the
    ``fastapi`` command reads, then the usual places. Raises `ConfigurationError` with what to do.
    """
    root = project_root(folder)
    _make_importable(root)
    named = spec or project_settings(root).get("app") or project_settings(root, "fastapi").get("entrypoint")
    if named is None:
        return _looked_for_app(root)
    if not isinstance(named, str):
        raise ConfigurationError('[tool.fastapi-sqlalchemy] app must be a text such as "app.main:app".')
    target = import_object(named)
    found = target() if callable(target) and not isinstance(target, FastAPI) else target
    if not isinstance(found, FastAPI):
        raise ConfigurationError(f"{named} is no FastAPI application, nor a function that makes one.")
    return named, found


def import_object(spec: str) -> Any:
    """Return what "module:variable" names, looked for in this folder too; raises `ConfigurationError` without it."""
    module_name, _, variable = spec.partition(":")
    if not module_name or not variable:
        raise ConfigurationError(
            f'{spec!r} does not say where to look. Write "module:variable", such as "app.database:db".'
        )
    _make_importable(Path.cwd())
    target: Any = _import(module_name)
    for part in variable.split("."):
        if not hasattr(target, part):
            raise ConfigurationError(f"The module {module_name} has no {variable}.")
        target = getattr(target, part)
    return target


def _make_importable(root: Path) -> None:
    for path in (root / "src", root):
        if path.is_dir() and str(path) not in sys.path:
            sys.path.insert(0, str(path))


def _looked_for_app(root: Path) -> tuple[str, FastAPI]:
    for place in _places(root, APP_PLACES, ("main", "app", "api")):
        names = {name: value for name, value in _variables(_import(place)).items() if isinstance(value, FastAPI)}
        for name in ("app", "api", *names):
            if name in names:
                return f"{place}:{name}", names[name]
    raise ConfigurationError(
        f"No application was found in {root}. Name it, such as app.main:app, or in pyproject.toml: "
        '[tool.fastapi-sqlalchemy] app = "app.main:app".'
    )


def _specs(given: Any) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    if _is_list(given) and all(isinstance(part, str) for part in given):
        return [str(part) for part in given]
    raise ConfigurationError(
        '[tool.fastapi-sqlalchemy] db must be a text such as "app.database:db", or a list of them.'
    )


def _named(spec: str) -> list[FoundDatabase]:
    target = import_object(spec)
    module_name, _, variable = spec.partition(":")
    if isinstance(target, SQLAlchemy):
        return [FoundDatabase(variable, spec, target)]
    if _is_list(target) and target and all(isinstance(item, SQLAlchemy) for item in target):
        return [FoundDatabase(_variable_of(sys.modules[module_name], item), spec, item) for item in target]
    raise ConfigurationError(f"{spec} is no SQLAlchemy object of fastapi_sqlalchemy, nor a list of them.")


def _variable_of(module: Any, db: SQLAlchemy) -> str:
    return next((name for name, value in _variables(module).items() if value is db), "db")


def _variables(module: Any) -> dict[str, Any]:
    found: dict[str, Any] = module.__dict__
    return found.copy()


def _places(root: Path, places: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Those of the places that there are, and the same names in the packages below ``src``."""
    packages = [path.parent.name for path in sorted(root.glob("src/*/__init__.py"))]
    for place in [*places, *(f"{package}.{name}" for package in packages for name in names)]:
        if _exists(place):
            yield place


def _looked_for(root: Path) -> list[FoundDatabase]:
    for place in _places(root, PLACES, ("main", "database", "db", "models")):
        module = _import(place)
        found = {
            id(value): FoundDatabase(name, f"{place}:{name}", value)
            for name, value in _variables(module).items()
            if isinstance(value, SQLAlchemy) and not name.startswith("_")
        }
        found.pop(id(module_level), None)
        if found:
            return list(found.values())
    raise ConfigurationError(
        f"No database was found in {root}. Name it with --db module:variable, or in pyproject.toml: "
        '[tool.fastapi-sqlalchemy] db = "app.database:db".'
    )


def _exists(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    # an installed package that happens to have the name is no part of the project
    return found is not None and "site-packages" not in str(found.origin)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"There is no module {name} in {os.getcwd()}.") from None
        raise ConfigurationError(f"The module {name} cannot be imported: {error}.") from error
    except FastAPISQLAlchemyError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigurationError(f"The module {name} cannot be imported: {told}") from error


def _import_models(module_name: str) -> None:
    """Import every module named ``models`` of the package that a database stands in, however deep."""
    top = module_name.partition(".")[0]
    package = sys.modules.get(top)
    folders = getattr(package, "__path__", None)
    if folders is None:
        if _exists("models"):
            _import("models")
        return
    for name in _modules_below(list(folders), f"{top}."):
        parts = name.split(".")
        if "models" in parts:
            _import(name)


def _modules_below(folders: list[str], prefix: str) -> Iterator[str]:
    for info in pkgutil.iter_modules(folders, prefix):
        yield info.name
        if info.ispkg:
            below = [os.path.join(folder, info.name.rpartition(".")[2]) for folder in folders]
            yield from _modules_below(below, f"{info.name}.")


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))
