"""Runs an application under a real uvicorn, on a free port of the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.nursery import ROOT, fork_server, lives


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
    told = [target, "--port", str(port), "--app-dir", str(ROOT), *arguments]
    pid = fork_server(told, folder=folder, log=log, variables=environment)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait(client, pid, log)
            yield Running(client, pid, log)
    finally:
        _end(pid)


def _wait(client: httpx2.Client, pid: int, log: Path) -> None:
    give_up = time.monotonic() + 20
    while lives(pid) and time.monotonic() < give_up:
        try:
            client.get("/openapi.json")
            return
        except httpx2.TransportError:
            time.sleep(0.02)
    raise RuntimeError(f"the application did not start:\n{log.read_text()[-3000:]}")


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + 10
    while lives(pid):
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
