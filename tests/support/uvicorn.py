"""Runs an application under a real uvicorn, on a free port of the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    """A server that answers: a client for it, its process id, and the file of its log."""

    client: httpx2.Client
    pid: int
    log: Path


@contextmanager
def serve_app(
    target: str, folder: Path, *, environment: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()
) -> Iterator[Running]:
    """Serve ``module:app`` with ``folder`` as its working directory; ended by SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"uvicorn-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--app-dir", str(ROOT), *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))), **(environment or {})},
            stdout=output,
            stderr=output,
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait(client, process, log)
            yield Running(client, process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(client: httpx2.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        try:
            client.get("/openapi.json")
            return
        except httpx2.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the application did not start:\n{log.read_text()[-3000:]}")
