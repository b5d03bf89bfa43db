"""``db.override(url)``: for the length of a block every door of a database leads to another one."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from .engines import EngineSource
from .exceptions import TransactionUsageError
from .scope import current_scope

__all__ = ["Override"]


class HasSource(Protocol):
    """What is put in place of a binding: something with engines."""

    source: EngineSource


D = TypeVar("D")
B = TypeVar("B", bound=HasSource)


class Override(Generic[D, B]):
    """For ``with`` or ``async with``; yields the database.

    ``overrides`` are those that hold now, the innermost last; ``make`` builds the one of this block. Its engines are
    disposed at the end, unless somebody else made them.
    Raises `TransactionUsageError` where a scope of the database is open, on the way in or out.
    """

    def __init__(self, database: D, overrides: list[B], make: Callable[[], B]) -> None:
        self._database = database
        self._overrides = overrides
        self._make = make
        self._entered: list[B] = []

    def __enter__(self) -> D:
        if current_scope(self._database) is not None:
            raise TransactionUsageError(
                "A scope of this database is open here, and its session would stay with the database that it has. "
                "Enter `db.override()` first, and open `with db():` inside of it."
            )
        binding = self._make()
        self._entered.append(binding)
        self._overrides.append(binding)
        return self._database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._restore().retire()
        self._refuse_open_scope(error)

    async def __aenter__(self) -> D:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        source = self._restore()
        await source.release()
        source.retire()
        self._refuse_open_scope(error)

    def _restore(self) -> EngineSource:
        binding = self._entered.pop()
        self._overrides[:] = [one for one in self._overrides if one is not binding]
        return binding.source

    def _refuse_open_scope(self, error: BaseException | None) -> None:
        if error is None and current_scope(self._database) is not None:
            raise TransactionUsageError(
                "A scope that was opened inside of `db.override()` is still open at its end. "
                "Let `with db():` end first."
            )
