"""Forks uvicorn servers out of one process that has imported everything: a server starts in a tenth of a second.

Reads one JSON object a line, ``{"app": "module:app", "port": 8000, "log": path, "env": {...}, "options": {...}}``,
answers with the process id, and ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from typing import Any

import aiosqlite  # noqa: F401  # imported before the fork
import asyncmy  # noqa: F401
import asyncpg  # noqa: F401
import psycopg  # noqa: F401
import pymysql  # noqa: F401
import sqlalchemy.dialects.mysql
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite  # noqa: F401
import uvicorn
from fastapi.testclient import TestClient  # noqa: F401

import fastapi_sqlalchemy  # noqa: F401


def serve(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order.get("env", {}))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "backlog": 4096, **order.get("options", {})}
    uvicorn.run(order["app"], host="127.0.0.1", port=order["port"], **options)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                serve(order)
            finally:
                sys.stdout.flush()
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
