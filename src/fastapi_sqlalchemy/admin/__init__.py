"""The admin: pages to look at, search and change the rows of every model or table, behind a login."""

from __future__ import annotations

from .accounts import Accounts as Accounts
from .application import Admin as Admin
from .store import AdminStore as AdminStore

__all__ = ["Accounts", "Admin", "AdminStore"]
