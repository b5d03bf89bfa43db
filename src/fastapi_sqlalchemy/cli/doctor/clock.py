"""The clock of the server against that of this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection

from .finding import Finding, Patient, ok, warning

__all__ = ["TOLERANCE", "check_clock", "compare_clocks"]

TOLERANCE = 2.0
"""Seconds that two clocks may be apart."""

_QUESTIONS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(SYSDATE(6))",
    "mariadb": "SELECT UNIX_TIMESTAMP(SYSDATE(6))",
}


def check_clock(_patient: Patient, connection: Connection) -> Iterator[Finding]:
    """Ask the server for the time."""
    question = _QUESTIONS.get(connection.dialect.name)
    if question is None:
        return
    asked = time.time()
    told = float(connection.execute(sa.text(question)).scalar_one())
    yield compare_clocks(told - (asked + time.time()) / 2, time.time() - asked)


def compare_clocks(ahead: float, round_trip: float) -> Finding:
    """What to say of a server that is ``ahead`` seconds before us, asked in ``round_trip`` seconds."""
    if abs(ahead) <= TOLERANCE + round_trip / 2:
        return ok("clock", f"The server's clock is within {TOLERANCE:g} s of this machine's.")
    where = "ahead of" if ahead > 0 else "behind"
    return warning(
        "clock",
        f"The server's clock is {abs(ahead):.0f} s {where} this machine's.",
        "Synchronise both (chrony, systemd-timesyncd): expiry times and created_at are wrong by as much.",
    )
