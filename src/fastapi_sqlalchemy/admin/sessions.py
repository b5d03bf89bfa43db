"""Sessions of administrators: a random token in a cookie, its digest in the store, ended on the server."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

import sqlalchemy as sa

from ..sessions import Session
from .store import AdminStore, accounts, now, sessions

__all__ = ["IDLE", "LIFETIME", "Sessions", "digest_of"]

LIFETIME = dt.timedelta(hours=12)
"""How long a session lasts at most."""

IDLE = dt.timedelta(hours=2)
"""How long it lasts without a request."""

_FRESH = dt.timedelta(minutes=1)


class Sessions:
    """Who is logged in: accounts of the store, and the ``temporary`` one, where there is one."""

    def __init__(self, store: AdminStore, temporary: str | None = None) -> None:
        self.store = store
        self._temporary = temporary

    async def start(self, account: str, previous: str | None) -> str:
        """End the session that the browser had, start another one and return its token."""
        token = secrets.token_urlsafe(32)
        moment = now()
        values = {"digest": digest_of(token), "account": account, "created_at": moment, "seen_at": moment}

        def work(session: Session) -> None:
            if previous is not None:
                session.execute(sa.delete(sessions).where(sessions.c.digest == digest_of(previous)))
            session.execute(
                sa.delete(sessions).where(
                    sa.or_(sessions.c.created_at < moment - LIFETIME, sessions.c.seen_at < moment - IDLE)
                )
            )
            session.execute(sa.insert(sessions).values(values))

        await self.store.run(work)
        return token

    async def account(self, token: str) -> str | None:
        """Return the account of a token whose session has not ended."""
        digest, moment = digest_of(token), now()
        statement = sa.select(sessions.c.account, sessions.c.seen_at).where(
            sessions.c.digest == digest,
            sessions.c.created_at >= moment - LIFETIME,
            sessions.c.seen_at >= moment - IDLE,
            sa.or_(
                sessions.c.account == self._temporary,
                sa.exists().where(accounts.c.name == sessions.c.account),
            ),
        )
        found = await self.store.run(lambda session: session.execute(statement).one_or_none(), read_only=True)
        if found is None:
            return None
        if moment - found.seen_at > _FRESH:
            seen = sa.update(sessions).where(sessions.c.digest == digest).values(seen_at=moment)
            await self.store.run(lambda session: session.execute(seen))
        return str(found.account)

    async def end(self, token: str) -> None:
        """End the session of a token."""
        statement = sa.delete(sessions).where(sessions.c.digest == digest_of(token))
        await self.store.run(lambda session: session.execute(statement))


def digest_of(token: str) -> str:
    """Return what the store keeps of a token: whoever reads the store cannot log in with it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
