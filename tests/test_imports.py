"""The layers of the house: a file imports only from its own layer or from those above it."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import pkgutil
from pathlib import Path

import fastapi_sqlalchemy
from fastapi_sqlalchemy import exceptions

ROOT = Path(fastapi_sqlalchemy.__file__).parent
LAYERS = [
    ("exceptions",),
    ("config",),
    ("admission", "turns"),
    ("engines",),
    ("bindings",),
    ("sessions", "scope"),
    ("transactions", "isolation", "override"),
    ("running",),
    ("models",),
    ("tables",),
    ("database",),
    ("discovery",),
    ("web", "middleware"),
    ("rest",),
    ("migrations",),
    ("observe",),
    ("transfer",),
    ("admin",),
    ("testing",),
    ("cli",),
    ("__init__", "__main__"),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


MODULES = {
    ".".join(("fastapi_sqlalchemy", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in modules()
}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def layer_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """The layers that a file imports from, also inside of functions; imports for type checking count too."""
    package = ("fastapi_sqlalchemy", *path.relative_to(ROOT).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{full}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "fastapi_sqlalchemy" and len(parts) > 1:
                found.add(parts[1] if parts[1] in RANK else "__init__")
    return found


def imported_modules(path: Path) -> set[str]:
    """The modules that are imported while this one is, as far as they are of the package."""
    package = ["fastapi_sqlalchemy", *path.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base)
    return found


def test_a_file_imports_only_from_its_own_layer_or_from_those_above() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports from {layer}"
        for path in modules()
        for layer in sorted(imported_layers(path))
        if RANK[layer] > RANK[layer_of(path)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(path) for name, path in MODULES.items() if path.name != "__init__.py"}
    graphlib.TopologicalSorter(graph).prepare()


def test_every_module_can_be_imported() -> None:
    for module in pkgutil.walk_packages([str(ROOT)], "fastapi_sqlalchemy."):
        importlib.import_module(module.name)


def test_what_a_module_exports_is_there_and_named_once() -> None:
    for name in MODULES:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), name
        assert [exported for exported in names if not hasattr(module, exported)] == [], name


def test_every_error_reaches_the_top() -> None:
    errors = {name for name in exceptions.__all__ if name.endswith("Error")}
    assert errors <= set(fastapi_sqlalchemy.__all__)


def test_every_public_name_reaches_the_top_and_the_list_is_sorted() -> None:
    names = fastapi_sqlalchemy.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(fastapi_sqlalchemy, name) is not None


def test_every_module_says_in_one_sentence_what_it_is_for() -> None:
    missing = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(parsed(path))]
    assert not missing
