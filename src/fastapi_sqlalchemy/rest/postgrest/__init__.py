"""PostgREST's wire for the tables and views of any database, so that its clients work unchanged."""

from .mounting import mount as mount

__all__ = ["mount"]
