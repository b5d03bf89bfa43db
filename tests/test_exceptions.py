"""One tree of errors, each of which says the cure."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc

import fastapi_sqlalchemy
from fastapi_sqlalchemy import exceptions

CLASSES: list[Any] = [
    value for value in vars(exceptions).values() if inspect.isclass(value) and value.__module__ == exceptions.__name__
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_in_the_tree_exported_and_documented(kind: Any) -> None:
    assert issubclass(kind, exceptions.FastAPISQLAlchemyError)
    assert kind.__name__ in exceptions.__all__
    assert kind.__doc__
    assert kind.__name__ in (exceptions.__doc__ or "")


def test_the_lists_of_names_are_sorted_and_true() -> None:
    for module in (exceptions, fastapi_sqlalchemy):
        assert list(module.__all__) == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not exceptions.BadRowError])
def test_every_error_can_be_raised_without_a_message_and_has_one(kind: Any) -> None:
    assert len(str(kind())) > 20
    assert str(kind("mine")) == "mine"


def test_a_row_that_is_bad_is_told_by_its_line_and_column() -> None:
    message = str(exceptions.BadRowError(3, "no number", column="price"))
    assert all(part in message for part in ("line 3", "price", "no number"))
    assert "lines 3 to 9" in str(exceptions.BadRowError(3, "a duplicate", last_line=9))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_goes_from_one_process_to_another_whole(kind: Any) -> None:
    bad_row = exceptions.BadRowError
    error = bad_row(3, "no number", column="price", kept=2) if kind is bad_row else kind("mine")
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (exceptions.MissingDatabaseError, (ValueError, TypeError)),
        (exceptions.UnknownOptionError, (ValueError, TypeError)),
        (exceptions.MissingDriverError, (ValueError, ImportError)),
        (exceptions.MissingExtraError, (ValueError, ImportError)),
        (exceptions.ReservedNameError, (ValueError, TypeError)),
        (exceptions.UnknownAttributeError, (TypeError,)),
        (exceptions.SessionNotInitialisedError, (exceptions.MissingSessionError,)),
        (exceptions.SessionClosedError, (sa_exc.InvalidRequestError,)),
        (exceptions.ConcurrentSessionUseError, (sa_exc.InvalidRequestError,)),
        (exceptions.ReadOnlyError, (sa_exc.InvalidRequestError,)),
        (exceptions.DatabaseUnavailableError, (sa_exc.SQLAlchemyError,)),
        (exceptions.PoolTimeoutError, (sa_exc.TimeoutError, exceptions.DatabaseUnavailableError)),
        (exceptions.PoolQueueFullError, (exceptions.PoolTimeoutError,)),
    ],
)
def test_what_users_catch_already_catches_ours(kind: Any, caught_by: tuple[type[BaseException], ...]) -> None:
    for base in caught_by:
        with pytest.raises(base):
            raise kind


def test_the_older_names_stay_importable() -> None:
    from fastapi_sqlalchemy.exceptions import (
        MissingSessionError,
        SessionNotAsync,
        SessionNotInitialisedError,
        SQLAlchemyAsyncioMissing,
        SQLAlchemyType,
    )

    assert issubclass(SQLAlchemyType, TypeError)
    assert issubclass(SQLAlchemyAsyncioMissing, ImportError)
    assert issubclass(SessionNotAsync, exceptions.FastAPISQLAlchemyError)
    assert issubclass(SessionNotInitialisedError, MissingSessionError)
