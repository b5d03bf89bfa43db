"""Accounts of administrators: made by a command, checked at login, guesses limited."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import sqlalchemy as sa

from ..exceptions import ConfigurationError
from ..sessions import Session
from .passwords import check_strength, hash_password, needs_rehash, verify
from .store import AdminStore, accounts, attempts, now, sessions

__all__ = ["ACCOUNT_GUESSES", "ADDRESS_GUESSES", "WINDOW", "Accounts", "Login"]

WINDOW = dt.timedelta(minutes=15)
"""How long a wrong guess counts."""

ADDRESS_GUESSES = 10
"""Wrong guesses that one address has in ``WINDOW``, whatever the name."""

ACCOUNT_GUESSES = 50
"""Wrong guesses that one name has in ``WINDOW``, from all addresses together."""

_HASHERS = 2
"""Passwords that are checked at one time; each takes 64 MiB."""


class Login(NamedTuple):
    """What became of an attempt to log in: the account, or None; ``wait`` are seconds until the next one counts."""

    account: str | None
    wait: int = 0


class Accounts:
    """The accounts of a store.

    ``temporary`` is the name and password hash of one more account, which lives as long as the process.
    """

    def __init__(self, store: AdminStore, temporary: tuple[str, str] | None = None) -> None:
        self.store = store
        self._temporary = temporary

    def names(self) -> list[str]:
        """Return the names of all accounts of the store, sorted."""
        statement = sa.select(accounts.c.name).order_by(accounts.c.name)
        return self.store.run_sync(lambda session: list(session.execute(statement).scalars()))

    async def any(self) -> bool:
        """Whether somebody can log in."""
        if self._temporary is not None:
            return True
        statement = sa.select(accounts.c.name).limit(1)
        return await self.store.run(lambda session: session.execute(statement).scalar() is not None, read_only=True)

    def create(self, name: str, password: str) -> None:
        """Make an account; raises `ConfigurationError` for a name that is taken or a password that is too short."""
        _check_name(name)
        check_strength(password)

        def work(session: Session) -> None:
            if session.execute(sa.select(accounts.c.name).where(accounts.c.name == name)).scalar() is not None:
                raise ConfigurationError(f"There is an account named {name!r}; set-password changes its password.")
            session.execute(
                sa.insert(accounts).values(name=name, password_hash=hash_password(password), changed_at=now())
            )

        self.store.run_sync(work)

    def set_password(self, name: str, password: str) -> None:
        """Change a password and end the sessions of the account; raises `ConfigurationError` where it is not there."""
        check_strength(password)
        values = {"password_hash": hash_password(password), "changed_at": now()}
        self._change(name, sa.update(accounts).where(accounts.c.name == name).values(values))

    def delete(self, name: str) -> None:
        """Delete an account and end its sessions; raises `ConfigurationError` where it is not there."""
        self._change(name, sa.delete(accounts).where(accounts.c.name == name))

    async def login(self, name: str, password: str, address: str) -> Login:
        """Return the account that the name and password open; a wrong guess counts against both name and address."""
        account, address = _key(name), address[:100]
        wait = await self.store.run(lambda session: _reserve(session, account, address))
        if wait > 0:
            return Login(None, wait)
        stored = await self._hash_of(name)
        right, fresh = await asyncio.wrap_future(_hashers().submit(_check, stored, password))
        if not right:
            return Login(None)
        await self.store.run(lambda session: _succeed(session, name, account, address, fresh))
        return Login(name)

    async def _hash_of(self, name: str) -> str | None:
        if self._temporary is not None and name == self._temporary[0]:
            return self._temporary[1]
        if not _is_name(name):
            return None
        statement = sa.select(accounts).where(accounts.c.name == name)
        found = await self.store.run(lambda session: session.execute(statement).one_or_none(), read_only=True)
        # MariaDB finds Ada, and àda, where ada is asked for
        return None if found is None or found.name != name else str(found.password_hash)

    def end_sessions(self, name: str) -> None:
        """Log an account out everywhere."""
        self.store.run_sync(lambda session: session.execute(sa.delete(sessions).where(sessions.c.account == name)))

    def _change(self, name: str, statement: sa.Update | sa.Delete) -> None:
        def work(session: Session) -> None:
            found = session.execute(sa.select(accounts.c.name).where(accounts.c.name == name)).scalar()
            if found != name:
                raise ConfigurationError(f"There is no account named {name!r}.")
            session.execute(statement)
            session.execute(sa.delete(sessions).where(sessions.c.account == name))

        self.store.run_sync(work)


@functools.cache
def _hashers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_HASHERS, thread_name_prefix="admin-password")


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 150 and name.isprintable() and name == name.strip()


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ConfigurationError("The name of an account has 1 to 150 characters that can be printed.")


def _key(name: str) -> str:
    """A guessed name as it is stored: people type a password there."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _check(stored: str | None, password: str) -> tuple[bool, str | None]:
    """Whether the password is right, and its hash with today's settings where it was made with weaker ones."""
    right = verify(stored, password)
    return right, hash_password(password) if right and stored is not None and needs_rehash(stored) else None


def _reserve(session: Session, account: str, address: str) -> int:
    """Count one more guess before it is made, or return the seconds until one may be made."""
    AdminStore.take_turn(session)
    moment = now()
    start = moment - WINDOW
    wait = 0
    for criterion, allowed in (
        (attempts.c.address == address, ADDRESS_GUESSES),
        (attempts.c.account == account, ACCOUNT_GUESSES),
    ):
        statement = sa.select(attempts.c.at).where(criterion, attempts.c.at > start).order_by(attempts.c.at.desc())
        oldest = session.execute(statement.offset(allowed - 1).limit(1)).scalar()
        if oldest is not None:
            wait = max(wait, int((oldest - start).total_seconds()) + 1)
    if wait == 0:
        session.execute(sa.insert(attempts).values(account=account, address=address, at=moment))
        session.execute(sa.delete(attempts).where(attempts.c.at < moment - 2 * WINDOW))
    return wait


def _succeed(session: Session, name: str, account: str, address: str, fresh: str | None) -> None:
    AdminStore.take_turn(session)
    session.execute(sa.delete(attempts).where(attempts.c.account == account, attempts.c.address == address))
    if fresh is not None:
        session.execute(sa.update(accounts).where(accounts.c.name == name).values(password_hash=fresh))
