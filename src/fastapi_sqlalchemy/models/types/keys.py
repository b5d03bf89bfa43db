"""A 64-bit key that numbers itself on every database."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer
from sqlalchemy.types import TypeEngine

__all__ = ["BigIntegerKey"]

BigIntegerKey: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")
"""For ``mapped_column(BigIntegerKey, primary_key=True)``: BIGINT, and INTEGER on SQLite, where it is as wide.

SQLite gives numbers only to a key whose type is spelled INTEGER (https://www.sqlite.org/autoinc.html).
"""
