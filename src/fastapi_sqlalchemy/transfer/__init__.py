"""Rows between tables and files: `load`, `dump`, and fixtures that are put in place by `seed`."""

from __future__ import annotations

from .dump import DumpReport as DumpReport
from .dump import dump as dump
from .load import LoadReport as LoadReport
from .load import load as load
from .readers import Options as Options
from .seed import SeedReport as SeedReport
from .seed import seed_function as seed_function
from .seed import seed_path as seed_path

__all__ = ["DumpReport", "LoadReport", "Options", "SeedReport", "dump", "load", "seed_function", "seed_path"]
