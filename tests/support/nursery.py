"""Forks uvicorn servers out of one process that has imported everything: a server starts in a tenth of a second.

As a program it reads one JSON object a line, ``{"arguments": ["module:app", "--port", "8000"], "folder": path,
"log": path, "environment": {...}}``, answers with the process id, and ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "close_nursery", "environment", "fork_server", "lives"]

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0

_nursery: subprocess.Popen[str] | None = None


def fork_server(
    arguments: Sequence[str], *, folder: Path, log: Path, variables: Mapping[str, str] | None = None
) -> int:
    """Start uvicorn with these arguments and variables; returns the id of a process that is no child of this one."""
    global _nursery
    if _nursery is None:
        _nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert _read(_nursery) == "ready"
    order = {"arguments": list(arguments), "folder": str(folder), "log": str(log)}
    assert _nursery.stdin is not None
    _nursery.stdin.write(json.dumps({**order, "environment": {**environment(), **(variables or {})}}) + "\n")
    _nursery.stdin.flush()
    return int(_read(_nursery))


def close_nursery() -> None:
    """End the process that servers are forked from; those that still run go on."""
    global _nursery
    if _nursery is not None:
        assert _nursery.stdin is not None and _nursery.stdout is not None
        _nursery.stdin.close()
        _nursery.wait(PATIENCE)
        _nursery.stdout.close()
        _nursery = None


def lives(pid: int) -> bool:
    """Whether a process of ours is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def environment() -> dict[str, str]:
    """The environment of a Python that finds the package and the tests."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _serve(order: dict[str, Any]) -> None:
    import uvicorn

    log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    uvicorn.main(order["arguments"], standalone_mode=False)


def _main() -> None:
    for name in (
        *("aiosqlite", "asyncmy", "asyncpg", "psycopg", "pymysql", "uvicorn", "fastapi.testclient"),
        *(f"sqlalchemy.dialects.{name}" for name in ("mysql", "postgresql", "sqlite")),
        *("fastapi_sqlalchemy", "fastapi_sqlalchemy.rest"),
    ):
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _serve(order)
            except SystemExit:
                pass  # uvicorn has said why
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    _main()
