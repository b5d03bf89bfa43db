"""What happens when something grows: the depth of a page, the rows of a page, the clients, the models."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

from benchmarks.load import Server
from benchmarks.models import empty, fill

DEPTHS = (1, 1_000, 10_000, 100_000, 1_000_000)
PAGES = (10, 100, 1_000, 10_000)
CLIENTS = (1, 10, 100, 1_000)
MODELS = (1, 10, 100, 250, 500)


def measure(url: str, *, seconds: float, rows: int = 1_000_010) -> dict[str, Any]:
    """CPU and latency of `CRUDRouter` by depth, rows per page and clients; the table has a million rows."""
    fill(url, rows=rows)
    log = Path(tempfile.mkstemp(prefix="benchmark-", suffix=".log")[1])
    server = Server("ours_growth", url, log)
    try:
        found: dict[str, Any] = {"depth": {}, "page": {}, "clients": {}}
        for depth in DEPTHS:
            found["depth"][depth] = _point(server, _deep(server, depth), seconds, 8)
        for size in PAGES:
            found["page"][size] = _point(server, f"/users?limit={size}", seconds, 8)
        for clients in CLIENTS:
            found["clients"][clients] = _point(server, "/users/500", seconds, clients)
        return found
    finally:
        server.stop()
        empty(url)


def _deep(server: Server, depth: int) -> str:
    """The path of the page whose first row is row number ``depth``, by cursor."""
    if depth == 1:
        return "/users?limit=100"
    query = urllib.parse.quote(json.dumps({"id__lt": depth}))
    path = f"/users?filter={query}&sort=-id&limit=1"
    assert json.loads(server.get(path))[0]["id"] == depth - 1
    return f"/deep/{depth}"


def _point(server: Server, path: str, seconds: float, clients: int) -> dict[str, float]:
    if path.startswith("/deep/"):
        path = json.loads(server.get(path))["path"]
    sample = server.load(path, seconds=seconds, clients=clients)
    if not sample.rate:  # not one answer was complete in that time: a large page on a busy machine
        sample = server.load(path, seconds=5 * seconds, clients=clients)
    return {
        "rate": sample.rate,
        "cpu_us": sample.cpu * 1e6 if sample.rate else 0.0,
        "p50_ms": sample.p50 * 1e3,
        "p99_ms": sample.p99 * 1e3,
        "errors": sample.errors,
    }


def models() -> dict[int, dict[str, float]]:
    """Seconds from start to the first OpenAPI document of an application with so many models and routers."""
    found: dict[int, dict[str, float]] = {}
    for number in MODELS:
        command = [sys.executable, "-m", "benchmarks.startup", str(number)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[number] = json.loads(output)
    return found
