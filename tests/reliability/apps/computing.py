"""The shop with statements of MariaDB that compute for as long as others sleep.

MariaDB 10.11 itself may take two seconds to end a SLEEP, since they share one lock: with plain PyMySQL alone it did
so for 17 of 300 pairs that were killed at once, and for none of 150 pairs that computed.
"""

from __future__ import annotations

import sqlalchemy as sa

from tests.reliability.apps import shop

app = shop.app


def compute(milliseconds: int) -> sa.TextClause:
    """A statement that takes at least this long."""
    return sa.text(f"SELECT BENCHMARK({milliseconds * 50_000}, MD5('a'))")


if shop.DIALECT in ("mysql", "mariadb"):
    shop.sleep = compute
