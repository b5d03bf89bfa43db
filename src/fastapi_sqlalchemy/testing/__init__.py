"""Helpers for the tests of applications."""

from __future__ import annotations

from .faults import DriverFaults as DriverFaults

__all__ = ["DriverFaults"]
