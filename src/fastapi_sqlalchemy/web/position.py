"""The token by which a client reads its own writes: how far the database was when it wrote, signed.

It travels in the cookie ``db_position`` and in the header ``X-DB-Position``, whichever the client keeps.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import cookie_parser

from ..config import DatabaseConfig
from ..engines import EngineSource
from ..engines.positions import PIN, UNKNOWN, Watermark

__all__ = ["COOKIE", "HEADER", "PositionSigner", "response_headers", "watermark_for"]

COOKIE: Final = "db_position"
HEADER: Final = "X-DB-Position"
MAX_AGE: Final = 3600
"""Seconds that a browser keeps the cookie; a replica that is further behind than that has long been left out."""

_MAX_LENGTH: Final = 1024
_FIELD: Final = HEADER.lower().encode()

logger = logging.getLogger("fastapi_sqlalchemy")
_random_key: bytes = secrets.token_bytes(32)


class PositionSigner:
    """Writes and reads tokens: base64url of ``database=position`` pairs, the key's fingerprint, an HMAC (RFC 2104).

    Without a key of the user's, each process has a random one. It cannot check what another process has signed, so
    such a request is read at the primary: correct, but no longer off its shoulders.
    """

    _warned = False

    def __init__(self, key: str | None) -> None:
        self._shared = key is not None
        secret = _random_key if key is None else key.encode()
        self._key = hmac.digest(secret, b"fastapi_sqlalchemy.position", hashlib.sha256)
        self._fingerprint = self._mac("fingerprint", 4)

    def name_of(self, source: EngineSource) -> str:
        """A name for the database that tells an outsider nothing."""
        url = source.url
        return self._mac(f"{url.host}:{url.port}/{url.database}?{url.query}", 6)

    def sign(self, positions: Mapping[str, str]) -> str:
        """The token for these positions, by the name of the database."""
        text = "&".join(f"{name}={position}" for name, position in positions.items())
        payload = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        return f"{payload}.{self._fingerprint}.{self._mac(payload, 16)}"

    def read(self, token: str) -> dict[str, str]:
        """The positions of a token; none of one that was not signed here, `UNKNOWN` of one that cannot be checked."""
        payload, _, rest = token.partition(".")
        fingerprint, _, mac = rest.partition(".")
        if len(token) > _MAX_LENGTH or len(fingerprint) != len(self._fingerprint) or not mac or not token.isascii():
            return {}
        if not hmac.compare_digest(fingerprint, self._fingerprint):
            return {} if self._shared else self._foreign()
        if not hmac.compare_digest(mac, self._mac(payload, 16)):
            return {}
        text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        pairs = (pair.partition("=") for pair in text.split("&"))
        return {name: position for name, _, position in pairs}

    def _foreign(self) -> dict[str, str]:
        if not PositionSigner._warned:
            PositionSigner._warned = True
            logger.warning(
                "A request carries a position that another process has signed, and is read at the primary. Give all "
                "workers one key: SQLAlchemy(url, position_key=...) or the environment variable DATABASE_POSITION_KEY."
            )
        return {"": UNKNOWN}

    def _mac(self, text: str, size: int) -> str:
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)[:size]
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def signer_of(source: EngineSource) -> PositionSigner:
    """The signer of a database; the same for two databases with one key."""
    key = source.config.position_key or DatabaseConfig.position_key_from_environment()
    found = _signers.get(key)
    if found is None:
        found = _signers[key] = PositionSigner(key)
    return found


_signers: dict[str | None, PositionSigner] = {}


def watermark_for(source: EngineSource, asgi_scope: Mapping[str, Any]) -> Watermark:
    """What a request has to see of a database: what its token says, to begin with."""
    watermark = Watermark(source.replicas.positions)
    tokens = list(_tokens(asgi_scope.get("headers", ())))
    if tokens:
        signer = signer_of(source)
        name = signer.name_of(source)
        for token in tokens:
            found = signer.read(token)
            position = found.get(name, found.get(""))
            if position is not None:
                watermark.require(position)
    return watermark


def response_headers(watermarks: Mapping[EngineSource, Watermark], *, secure: bool) -> list[tuple[bytes, bytes]]:
    """The header fields that give a client the position of what its request has written; none if it wrote nothing."""
    written = {source: mark for source, mark in watermarks.items() if mark.written}
    if not written:
        return []
    signer = signer_of(next(iter(written)))
    token = signer.sign({signer.name_of(source): str(mark) for source, mark in watermarks.items() if str(mark)})
    age = int(PIN) if any(mark.is_pinned for mark in written.values()) else MAX_AGE
    cookie = f"{COOKIE}={token}; HttpOnly; Max-Age={age}; Path=/; SameSite=Lax{'; Secure' if secure else ''}"
    return [(b"set-cookie", cookie.encode("latin-1")), (_FIELD, token.encode("latin-1"))]


def _tokens(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[str]:
    for name, value in headers:
        if name == _FIELD:
            yield value.decode("latin-1").strip()
        elif name == b"cookie" and COOKIE.encode() in value:
            token = cookie_parser(value.decode("latin-1")).get(COOKIE)
            if token:
                yield token
