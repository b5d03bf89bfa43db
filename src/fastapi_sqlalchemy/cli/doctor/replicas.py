"""The replicas: whether each answers, and how far it is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sqlalchemy.util import greenlet_spawn

from ...config import DatabaseConfig
from ...engines.positions import Watermark
from ...engines.replicas import Server
from .finding import Finding, Patient, error, ok, reason, warning

__all__ = ["check_replicas"]


def check_replicas(patient: Patient) -> Iterator[Finding]:
    """Ask each replica for its position."""
    replicas, config = patient.source.replicas, patient.source.config
    if not len(replicas):
        return
    if patient.workers > 1 and config.position_key is None and DatabaseConfig.position_key_from_environment() is None:
        yield warning(
            "replicas",
            f"Each of {patient.workers} workers signs positions with a key of its own, and takes no other's.",
            "Set DATABASE_POSITION_KEY, the same for all, so that clients read their own writes.",
        )
    for server in replicas.servers:
        try:
            if patient.source.has_sync_driver():
                server.serves(Watermark(replicas.positions), asynchronous=False)
            else:
                asyncio.run(_ask(server, Watermark(replicas.positions)))
        except Exception as failure:  # the driver's own, whichever it is
            yield error(
                "replicas",
                f"{server.url} does not answer: {reason(failure)}.",
                "Start it, correct its URL, or take it out of replicas=; until then the primary reads.",
            )
            continue
        status = server.status()
        if status.state == "lagging":
            behind = "" if status.lag_seconds is None else f" by {status.lag_seconds:.1f} s"
            yield warning("replicas", f"{server.url} is behind{behind}; it is left out.", "Find out what it waits for.")
        else:
            yield ok("replicas", f"{server.url} answers.")


async def _ask(server: Server, watermark: Watermark) -> None:
    try:
        await greenlet_spawn(server.serves, watermark, asynchronous=True)
    finally:
        await server.source.adispose()
