"""Helpers for the tests of applications; the pytest plugin is `pytest_fastapi_sqlalchemy`."""

from __future__ import annotations

from .faults import DriverFaults as DriverFaults
from .nplusone import forbid_nplusone as forbid_nplusone
from .queries import assert_queries as assert_queries

__all__ = ["DriverFaults", "assert_queries", "forbid_nplusone"]
