"""``fastapi-sqlalchemy shell``: Python with the project's models loaded and a scope of every database open."""

from __future__ import annotations

import ast
import asyncio
import code
import codeop
import contextvars
import importlib
import importlib.util
import inspect
from collections.abc import Coroutine, Generator, Sequence
from contextlib import ExitStack, contextmanager
from types import CodeType, FunctionType
from typing import Annotated, Any

import sqlalchemy
import typer

from ..config import masked
from ..database import SQLAlchemy
from ..discovery import FoundDatabase, find_databases
from .failures import CodeFailedError
from .options import Db

__all__ = ["namespace", "shell"]


def shell(
    db: Db = None,
    command: Annotated[str | None, typer.Option("--command", "-c", help="Run this code instead, then leave.")] = None,
) -> None:
    """Open Python with the models loaded and a session at hand; IPython where it is installed.

    "await" works at the top level. What is not committed is rolled back at the end. Exit codes: 0 done; 1 the code
    raised; 2 no database was found.
    """
    found = find_databases(db)
    names = namespace(found)
    with asyncio.Runner() as runner, ExitStack() as scopes:
        for item in found:
            scopes.enter_context(_scope(item.db, runner))
        if command is not None:
            _execute(command, names, runner)
        else:
            _interact(names, _banner(found, names), runner)


def namespace(found: Sequence[FoundDatabase]) -> dict[str, Any]:
    """Return what the shell knows by name: SQLAlchemy's functions, the models, and the databases over all of them."""
    functions = ("delete", "func", "insert", "select", "text", "update")
    names: dict[str, Any] = {name: getattr(sqlalchemy, name) for name in functions}
    for item in found:
        for mapper in item.db.Base.registry.mappers:
            names.setdefault(mapper.class_.__name__, mapper.class_)
    names.update({item.name.rpartition(".")[2]: item.db for item in found})
    return names


@contextmanager
def _scope(db: SQLAlchemy, runner: asyncio.Runner) -> Generator[None]:
    """A scope for sync code and for coroutines of the runner alike, which commits nothing by itself."""
    scope = db.open_scope(commit_on_exit=False, awaitable=True)

    async def end() -> None:
        try:
            await scope.complete_async(clean=False)
        finally:
            await scope.close_async()
            await db.adispose()

    scope.push()
    try:
        yield
    finally:
        try:
            runner.run(end())
        finally:
            scope.pop()


def _execute(command: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    scope = {"__name__": "__console__", **names}
    try:
        compiled = compile(command, "<command>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        _run(compiled, scope, runner)
    except Exception as error:
        raise CodeFailedError(f"{type(error).__name__}: {error}") from error


def _run(compiled: CodeType, names: dict[str, Any], runner: asyncio.Runner) -> None:
    """Run code of the top level: what awaits on the runner's loop, all else outside of any loop."""
    result = FunctionType(compiled, names)()
    if inspect.iscoroutine(result):
        _run_coroutine(runner, result)


def _run_coroutine(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, Any]) -> Any:
    # the runner's own context is older than the scopes
    return runner.run(coroutine, context=contextvars.copy_context())


class _Console(code.InteractiveConsole):
    """Python's own console, in which ``await`` works."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self._names = names
        self._runner = runner
        self.compile: codeop.CommandCompiler
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        try:
            _run(code, self._names, self._runner)
        except SystemExit:
            raise
        except BaseException:
            self.showtraceback()


def _banner(found: Sequence[FoundDatabase], names: dict[str, Any]) -> str:
    models = sorted(name for name, value in names.items() if isinstance(value, type))
    lines = [f"{item.name}: {masked(item.db.url)}" for item in found]
    lines.append(f"Models: {', '.join(models) or 'none'}")
    lines.append(f"{found[0].name}.session.commit() keeps what you change; await works too.")
    return "\n".join(lines)


def _interact(names: dict[str, Any], banner: str, runner: asyncio.Runner) -> None:
    if importlib.util.find_spec("IPython") is None:
        _Console({"__name__": "__console__", "__doc__": None, **names}, runner).interact(banner=banner, exitmsg="")
        return
    ipython: Any = importlib.import_module("IPython")
    config: Any = importlib.import_module("traitlets.config").Config()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:  # a function, since the configuration copies all else deeply
        return _run_coroutine(runner, coroutine)

    config.InteractiveShell.loop_runner = run
    typer.echo(banner)
    ipython.start_ipython(argv=["--no-banner"], user_ns=names, config=config)
