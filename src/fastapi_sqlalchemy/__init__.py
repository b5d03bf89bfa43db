"""FastAPI and SQLAlchemy, joined: one session per request, committed before the response, for any database."""

from __future__ import annotations

from typing import Literal

from .config import DatabaseConfig as DatabaseConfig
from .config import Replica as Replica
from .database import SQLAlchemy as SQLAlchemy
from .database import db as db
from .exceptions import AmbiguousDatabaseError as AmbiguousDatabaseError
from .exceptions import AsyncScopeRequiredError as AsyncScopeRequiredError
from .exceptions import BadRowError as BadRowError
from .exceptions import ConcurrentSessionUseError as ConcurrentSessionUseError
from .exceptions import ConfigurationError as ConfigurationError
from .exceptions import DatabaseUnavailableError as DatabaseUnavailableError
from .exceptions import ExplainError as ExplainError
from .exceptions import FastAPISQLAlchemyError as FastAPISQLAlchemyError
from .exceptions import MigrationsPendingError as MigrationsPendingError
from .exceptions import MissingDatabaseError as MissingDatabaseError
from .exceptions import MissingDriverError as MissingDriverError
from .exceptions import MissingExtraError as MissingExtraError
from .exceptions import MissingSessionError as MissingSessionError
from .exceptions import NotConfirmedError as NotConfirmedError
from .exceptions import PoolQueueFullError as PoolQueueFullError
from .exceptions import PoolTimeoutError as PoolTimeoutError
from .exceptions import ReadOnlyError as ReadOnlyError
from .exceptions import RequestTimeoutError as RequestTimeoutError
from .exceptions import ReservedNameError as ReservedNameError
from .exceptions import SessionClosedError as SessionClosedError
from .exceptions import SessionNotInitialisedError as SessionNotInitialisedError
from .exceptions import TransactionUsageError as TransactionUsageError
from .exceptions import UnknownAttributeError as UnknownAttributeError
from .exceptions import UnknownOptionError as UnknownOptionError
from .models.base import ModelBase as ModelBase
from .sessions import AsyncSession as AsyncSession
from .sessions import Session as Session
from .web.doors import install as _install
from .web.middleware import DBSessionMiddleware as DBSessionMiddleware

__version__ = "1.0.0"

__all__ = [
    "AmbiguousDatabaseError",
    "AsyncScopeRequiredError",
    "AsyncSession",
    "BadRowError",
    "ConcurrentSessionUseError",
    "ConfigurationError",
    "DBSessionMiddleware",
    "DatabaseConfig",
    "DatabaseUnavailableError",
    "ExplainError",
    "FastAPISQLAlchemyError",
    "MigrationsPendingError",
    "MissingDatabaseError",
    "MissingDriverError",
    "MissingExtraError",
    "MissingSessionError",
    "ModelBase",
    "NotConfirmedError",
    "PoolQueueFullError",
    "PoolTimeoutError",
    "ReadOnlyError",
    "Replica",
    "RequestTimeoutError",
    "ReservedNameError",
    "SQLAlchemy",
    "Session",
    "SessionClosedError",
    "SessionNotInitialisedError",
    "TransactionUsageError",
    "UnknownAttributeError",
    "UnknownOptionError",
    "__version__",
    "db",
]

_install()


def _prepare(database: SQLAlchemy, mode: Literal["check", "upgrade"]) -> None:
    from .migrations.start import prepare_database

    prepare_database(database, mode)


SQLAlchemy.prepare = staticmethod(_prepare)
