"""The engines of a database object together with the settings of its sessions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy.engine import URL

from .config import DatabaseConfig
from .engines import EngineSource
from .exceptions import ConfigurationError, UnknownOptionError

__all__ = ["Binding"]

_ENGINE_OPTIONS = frozenset(inspect.signature(DatabaseConfig.create).parameters) - {"url"}
_SESSION_OPTIONS = frozenset({"session_args", "async_session_args", "commit_on_exit", "expire_on_commit"})
_ACCEPTED = frozenset({"verbose", "async_", "migrations"})
_OPTIONS = _ENGINE_OPTIONS | _SESSION_OPTIONS | _ACCEPTED


class Binding:
    """The engines and session settings that a database object works with.

    ``is_plain`` says that the settings have no part in what a session reads.
    """

    def __init__(self, url: str | URL | None, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise UnknownOptionError(f"__init__() got an unexpected keyword argument '{unknown[0]}'")
        engine_options = {name: value for name, value in options.items() if name in _ENGINE_OPTIONS}
        self.source = EngineSource(DatabaseConfig.create(url, **engine_options))
        self.commit_on_exit = bool(options.get("commit_on_exit"))
        self.migrations: Literal["check", "upgrade"] | None = options.get("migrations")
        if self.migrations not in (None, "check", "upgrade"):
            raise ConfigurationError(f'migrations is "check", "upgrade" or None, not {self.migrations!r}.')
        expire = {"expire_on_commit": bool(options.get("expire_on_commit"))}
        given: Mapping[str, Any] = options.get("session_args") or {}
        asynchronous: Mapping[str, Any] | None = options.get("async_session_args")
        self.session_args: dict[str, Any] = {**expire, **given}
        self.async_session_args: dict[str, Any] = {**expire, **(given if asynchronous is None else asynchronous)}
        self.is_plain = {*self.session_args, *self.async_session_args} <= {"autoflush", "expire_on_commit"}
