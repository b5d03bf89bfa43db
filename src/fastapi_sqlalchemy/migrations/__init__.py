"""Migrations over Alembic, without an ``env.py`` to write; many workers may start at once."""

from .environment import run_env as run_env
from .runner import Difference as Difference
from .runner import Migrations as Migrations
from .runner import Step as Step

__all__ = ["Difference", "Migrations", "Step", "run_env"]
