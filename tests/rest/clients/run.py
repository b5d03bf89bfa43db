"""Installs the clients of the dialects and drives them against the application, on every database there is.

``python -m tests.rest.clients.run`` needs node and npm, without which it says so and does nothing. ``--capture`` writes
what the clients sent and got on SQLite to ``captured.ndjson``, which ``tests/rest/test_dialect_clients.py`` replays.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.databases import Servers, drop_spare_databases, server_url, temporary_database
from tests.support.uvicorn import serve_app

HERE = Path(__file__).parent
CAPTURED = HERE / "captured.ndjson"
PACKAGES = (
    "ra-data-simple-rest@5.15.3",
    "ra-data-json-server@5.15.3",
    "@refinedev/simple-rest@6.0.1",
    "ra-core@5.15.4",
    "react@18",
    "react-dom@18",
    "react-hook-form@7",
    "react-router@6",
    "react-router-dom@6",
    "@tanstack/react-query@5",
)


def main() -> int:
    """Drive the clients; the exit code is that of the first one that fails."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        print(f"NO {' AND NO '.join(missing)}: the clients of the dialects are skipped. Install Node.js 20 or newer.")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fsa-clients-"))
    (folder / "parts").mkdir()
    servers = Servers(folder / "parts")
    try:
        packages = Path(os.environ.get("CLIENTS", folder))
        if not (packages / "node_modules").exists():
            install(packages)
        return drive(packages, folder)
    finally:
        drop_spare_databases()
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def install(folder: Path) -> None:
    """Install the packages where nothing of the repository is touched."""
    print(f"Installing {', '.join(PACKAGES[:3])} with npm")
    (folder / "package.json").write_text("{}")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--legacy-peer-deps"]
    subprocess.run(["npm", "install", *options, *PACKAGES], cwd=folder, check=True)


def drive(packages: Path, folder: Path) -> int:
    """Run the driver on each database."""
    script = shutil.copy(HERE / "providers.mjs", packages)
    with ExitStack() as stack:
        urls = {"sqlite": f"sqlite:///{folder}/clients.db"}
        for name in ("postgresql", "mariadb"):
            if server_url(name) is None:
                print(f"{name}: NO PART, there is no server")
            else:
                urls[name] = stack.enter_context(temporary_database(name))
        for name, url in urls.items():
            target = "tests.rest.clients.app:create"
            with serve_app(target, folder, environment={"DATABASE_URL": url}, arguments=("--factory",)) as running:
                address = str(running.client.base_url).rstrip("/")
                done = subprocess.run(["node", script, address], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: FAILED\n{done.stderr}")
                return done.returncode
            calls = json.loads(done.stdout)
            number = sum(len(call["exchanges"]) for call in calls)
            print(f"{name}: {len(calls)} calls of 3 clients, {number} requests, all as the clients want them")
            if name == "sqlite" and "--capture" in sys.argv:
                CAPTURED.write_text("".join(f"{json.dumps(line)}\n" for line in lines_of(calls)))
    return 0


def lines_of(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each request with its answer; of the rows of a list, only their ids."""
    for call in calls:
        for exchange in call["exchanges"]:
            answer = exchange.pop("answer")
            kept = [row["id"] for row in answer] if isinstance(answer, list) else answer
            yield {"client": call["client"], "call": call["method"], **exchange, "answer": kept}


if __name__ == "__main__":
    sys.exit(main())
