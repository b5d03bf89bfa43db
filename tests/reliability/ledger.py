"""What clients were told about the rows they wrote, to be compared with what the database holds."""

from __future__ import annotations

from .databases import Database
from .wire import Connection

__all__ = ["LOST", "Ledger"]

LOST = (OSError, EOFError)


class Ledger:
    """What clients were told: the names of the rows that a server acknowledged, and every status but 201."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []
        self._sent = 0

    async def write_until_it_ends(self, port: int, prefix: str) -> None:
        """POST rows one after the other until the server is gone."""
        try:
            async with Connection(port) as connection:
                while True:
                    await self.write(connection, prefix)
        except LOST:
            return

    async def write(self, connection: Connection, prefix: str, path: str = "items") -> None:
        self._sent += 1
        name = f"row {self._sent}"
        answer = await connection.request("POST", f"{prefix}/{path}", {"name": name})
        if answer.status < 300:
            self.acknowledged.append(name)
        if answer.status != 201:
            self.statuses.append(answer.status)

    def lost(self, database: Database) -> set[str]:
        """The acknowledged rows that the database does not hold."""
        with database.engine.connect() as connection:
            stored = set(connection.exec_driver_sql("SELECT name FROM item").scalars())
        return set(self.acknowledged) - stored
