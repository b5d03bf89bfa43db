"""Databases of several machines: what can be shown of them without running one."""

from __future__ import annotations

import importlib.util
from typing import Any

import asyncpg
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from fastapi_sqlalchemy import ConfigurationError, SQLAlchemy
from fastapi_sqlalchemy.transactions import is_conflict

CLUSTERS = {
    "CockroachDB": "cockroachdb://app@127.0.0.1:26257/app",
    "YugabyteDB": "postgresql://app@127.0.0.1:5433/app",
    "Citus": "postgresql://app@127.0.0.1:5432/app",
}


@pytest.fixture(params=CLUSTERS)
def db(request: pytest.FixtureRequest) -> SQLAlchemy:
    if request.param == "CockroachDB" and importlib.util.find_spec("sqlalchemy_cockroachdb") is None:
        pytest.skip("NO DIALECT OF COCKROACHDB: pip install sqlalchemy-cockroachdb (its 2.0 asks for SQLAlchemy 2.0)")
    return SQLAlchemy(CLUSTERS[request.param], statement_timeout=7)


def test_a_dialect_that_is_not_installed_is_a_clear_error() -> None:
    if importlib.util.find_spec("sqlalchemy_cockroachdb") is not None:
        pytest.skip("the dialect is installed")
    with pytest.raises(ConfigurationError, match="cockroachdb"):
        SQLAlchemy(CLUSTERS["CockroachDB"]).engine  # noqa: B018


def compiled(statement: Any, db: SQLAlchemy) -> str:
    return " ".join(str(statement.compile(dialect=db.engine.dialect)).split())


def test_one_url_gives_both_engines_with_their_deadlines(db: SQLAlchemy) -> None:
    assert (db.engine.dialect.name, db.engine.dialect.driver) == (db.url.get_backend_name(), "psycopg")
    engine = db.source.asynchronous()
    assert engine.dialect.name == db.url.get_backend_name()
    assert engine.dialect.driver == ("asyncpg" if "cockroachdb" in db.url.drivername else "psycopg")
    options = db.source._options(db.engine.url, {}, sa.QueuePool)
    assert options["connect_args"] == {"connect_timeout": 5, "options": "-c statement_timeout=7000"}


def test_models_and_statements_compile(db: SQLAlchemy) -> None:
    class Sale(db.Base):
        """Distributed by tenant: the key begins with it, as Citus asks of every unique constraint."""

        tenant_id: Mapped[int] = mapped_column(primary_key=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        amount: Mapped[int] = mapped_column(sa.BigInteger)

    table = sa.inspect(Sale).local_table
    assert "CONSTRAINT pk_sale PRIMARY KEY (tenant_id, id)" in compiled(CreateTable(table), db)
    locked = compiled(sa.select(Sale.amount).where(Sale.tenant_id == 1).with_for_update(), db)
    assert locked.endswith("FOR UPDATE")
    written = compiled(sa.insert(Sale).values(tenant_id=1, id=1, amount=1).returning(Sale.id), db)
    assert written.endswith("RETURNING sale.id")
    upsert = insert(Sale).values(tenant_id=1, id=1, amount=1)
    text = compiled(upsert.on_conflict_do_update(index_elements=["tenant_id", "id"], set_={"amount": 2}), db)
    assert "ON CONFLICT (tenant_id, id) DO UPDATE SET amount =" in text


@pytest.mark.parametrize(
    ("error", "again"),
    [
        pytest.param(psycopg.errors.SerializationFailure("restart transaction"), True, id="psycopg 40001"),
        pytest.param(psycopg.errors.DeadlockDetected("canceling the transaction"), True, id="psycopg 40P01"),
        pytest.param(asyncpg.SerializationError("restart transaction"), True, id="asyncpg 40001"),
        pytest.param(pymysql.err.OperationalError(1213, "Deadlock found"), True, id="Galera, certification"),
        pytest.param(pymysql.err.OperationalError(1047, "WSREP has not yet prepared"), True, id="Galera, not ready"),
        pytest.param(psycopg.errors.StatementCompletionUnknown("result is ambiguous"), False, id="CockroachDB 40003"),
        pytest.param(psycopg.errors.UniqueViolation("duplicate key"), False, id="psycopg 23505"),
        pytest.param(pymysql.err.OperationalError(2013, "Lost connection"), False, id="lost in COMMIT"),
    ],
)
def test_a_conflict_is_told_from_an_outcome_that_is_not_known(error: Exception, again: bool) -> None:
    assert is_conflict(sa.exc.DBAPIError("COMMIT", {}, error)) is again
