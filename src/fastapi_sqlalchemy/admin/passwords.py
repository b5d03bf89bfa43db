"""Passwords of administrators: hashed with Argon2id, checked at the same cost whether the account is there or not."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["MAX_LENGTH", "MIN_LENGTH", "check_strength", "hash_password", "needs_rehash", "verify"]

MIN_LENGTH = 10
"""Characters of a password; NIST SP 800-63B asks for 8 at least, and for no rules on their kinds."""

MAX_LENGTH = 1000
"""Characters that are hashed at most: the cost of a guess stays bounded."""


def check_strength(password: str) -> None:
    """Raise `ConfigurationError` for a password that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ConfigurationError(f"The password needs at least {MIN_LENGTH} characters, and at most {MAX_LENGTH}.")


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password (RFC 9106, second recommended option)."""
    return _hasher().hash(password)


def verify(stored: str | None, password: str) -> bool:
    """Whether the password is the one that was hashed; without a hash the same work is done, and the answer is no."""
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > MAX_LENGTH:
        return False
    try:
        _hasher().verify(_decoy() if stored is None else stored, password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def needs_rehash(stored: str) -> bool:
    """Whether the hash was made with weaker settings than today's."""
    return _hasher().check_needs_rehash(stored)


@functools.cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@functools.cache
def _decoy() -> str:
    return hash_password("nobody has this account")
