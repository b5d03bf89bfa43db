"""The module of the older library: ``from fastapi_sqlalchemy.middleware import DBSessionMiddleware, db``."""

from __future__ import annotations

from .database import db as db
from .web.middleware import DBSessionMiddleware as DBSessionMiddleware

__all__ = ["DBSessionMiddleware", "db"]
