"""The command line: ``fastapi-sqlalchemy serve URL``."""

from .app import app as app
from .app import main as main
from .app import run as run

__all__ = ["app", "main", "run"]
