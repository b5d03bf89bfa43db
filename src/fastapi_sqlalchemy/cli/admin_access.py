"""Who can open the admin of ``serve``: the accounts of the database, or one whose password is printed at the start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from fastapi import FastAPI
from sqlalchemy.engine import URL
from starlette.routing import Mount

from ..admin import Accounts, Admin, AdminStore
from ..admin.extra import require_extra
from ..admin.passwords import hash_password
from ..web.requests import is_loopback
from .application import TEMPORARY, ServeSettings

__all__ = ["AdminAccess", "admin_of"]


@dataclass(frozen=True)
class AdminAccess:
    """The settings with what the admin needs, and the password to print, where there is one."""

    settings: ServeSettings
    password: str | None = None

    def lines(self, app: FastAPI, base: str) -> list[tuple[str, str]]:
        """Return what to tell of the admin."""
        path = next(route.path for route in app.routes if isinstance(route, Mount) and isinstance(route.app, Admin))
        found = [("Admin", f"{base}{path}/")]
        if self.settings.no_login:
            found.append(("Login", "none, this machine alone is answered"))
        elif self.password is not None:
            found.append(("Login", f"{TEMPORARY}, password {self.password} (until this server stops)"))
        if not is_loopback(self.settings.host):
            found.append(("Note", "this server speaks plain HTTP; put TLS in front of it before you log in from afar"))
        return found


def admin_of(settings: ServeSettings, database: URL) -> AdminAccess:
    """Return the access to the admin: without any account, one is made for as long as the server runs."""
    require_extra()
    if settings.no_login:
        return AdminAccess(settings)
    store = AdminStore(None, database)
    store.prepare()
    try:
        accounts = Accounts(store)
        if accounts.names():
            return AdminAccess(settings)
        accounts.end_sessions(TEMPORARY)  # of another run
    finally:
        store.db.dispose()
    password = secrets.token_urlsafe(12)
    return AdminAccess(replace(settings, admin_hash=hash_password(password)), password)
