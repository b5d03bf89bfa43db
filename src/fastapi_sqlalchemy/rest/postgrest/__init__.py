"""PostgREST's wire for the tables and views of any database, so that its clients work unchanged."""

from .mounting import PREFIX as PREFIX
from .mounting import mount as mount

__all__ = ["PREFIX", "mount"]
