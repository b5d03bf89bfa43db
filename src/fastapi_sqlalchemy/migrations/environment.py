"""What ``env.py`` runs: Alembic's environment for the databases of a project, made by us for every one of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import context
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from ..discovery import FoundDatabase, find_databases
from ..engines import EngineSource
from ..engines.sqlite import always_writing, is_memory_url
from ..exceptions import ConfigurationError
from ..models import types
from ..models.types import utc_timestamp
from .enums import enum_changes
from .lock import PATIENCE, migration_lock
from .progress import recorded

__all__ = ["connected", "databases_of", "on_connection", "options_for", "run_env"]

T = TypeVar("T")


def run_env() -> None:
    """Run the migrations of the databases that ``alembic.ini`` names, online or as SQL.

    Called by the ``env.py`` that ``fastapi-sqlalchemy db init`` writes, so that the ``alembic`` command works as well.
    """
    config = context.config
    found = databases_of(config)
    shared = config.get_main_option("databases") is not None
    for item in found:
        if context.is_offline_mode():
            _configure_offline(item, shared=shared)
            with context.begin_transaction():
                _run(item, shared=shared)
        else:
            on_connection(item, functools.partial(_run_online, item, shared=shared))


def databases_of(config: Any) -> list[FoundDatabase]:
    """Return the databases of a section of ``alembic.ini``, or those that the caller found already."""
    given: Sequence[FoundDatabase] | None = config.attributes.get("databases")
    if given is not None:
        return list(given)
    spec = config.get_main_option("databases") or config.get_main_option("db")
    return find_databases(spec)


def on_connection(item: FoundDatabase, work: Callable[[sa.Connection], T]) -> T:
    """Return ``work(connection)``, on a connection whose statements may take as long as they take.

    It is one of the async driver where the database has no other.
    """
    source = item.db.source
    if source.isolation is not None:
        with source.sync().connect() as connection:
            return work(connection)
    config = source.config
    plain = config.custom_engine is None and config.async_custom_engine is None and not is_memory_url(source.url)
    own = EngineSource(replace(config, statement_timeout=None, replicas=())) if plain else source
    try:
        return connected(own, work)
    finally:
        if own is not source:
            own.dispose()


def connected(source: EngineSource, work: Callable[[sa.Connection], T]) -> T:
    """Return ``work(connection)``, on a connection of the async driver where there is no other."""
    if source.has_sync_driver():
        with source.sync().connect() as connection:
            return work(connection)
    return asyncio.run(_on_async_connection(source, work))


async def _on_async_connection(source: EngineSource, work: Callable[[sa.Connection], T]) -> T:
    engine = source.asynchronous()
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _run_online(item: FoundDatabase, connection: sa.Connection, *, shared: bool) -> None:
    changing = _is_changing()
    timeout = float(context.config.attributes.get("lock_timeout", PATIENCE))
    options = options_for(item, connection.dialect.name, shared=shared)
    if not changing:
        options["dont_mutate"] = True  # no version table either
    with contextlib.ExitStack() as stack:
        progress = None
        if changing:
            stack.enter_context(migration_lock(connection, timeout))
            stack.enter_context(_writing_at_once(connection))
            progress = stack.enter_context(recorded(connection))
        stack.enter_context(_foreign_keys_off(connection))
        if progress is not None:
            options["on_version_apply"] = (_note_step, progress.applied)
        context.configure(connection=connection, **options)
        if progress is not None:
            progress.begin(context.get_context().get_current_heads())
        with context.begin_transaction():
            _run(item, shared=shared)
    if connection.in_transaction():
        connection.commit()


def _run(item: FoundDatabase, *, shared: bool) -> None:
    if shared:
        context.run_migrations(engine_name=item.name)
    else:
        context.run_migrations()


def _is_changing() -> bool:
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


@contextmanager
def _writing_at_once(connection: sa.Connection) -> Generator[None]:
    """SQLite: begin every transaction as a writer, for one that reads first is refused when another wrote meanwhile.

    Source: https://www.sqlite.org/isolation.html, SQLITE_BUSY_SNAPSHOT.
    """
    if connection.dialect.name != "sqlite" or connection.in_transaction():
        yield
        return
    with always_writing(connection):
        yield


@contextmanager
def _foreign_keys_off(connection: sa.Connection) -> Generator[None]:
    """SQLite: let a table be made anew without touching the rows that point at it, and look at those afterwards.

    Source: https://www.sqlite.org/lang_altertable.html, section 7.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    enforced = bool(_pragma(driver, "foreign_keys")[0][0])
    _pragma(driver, "foreign_keys = OFF")
    broken: list[Any] = []
    try:
        yield
        broken = _pragma(driver, "foreign_key_check") if enforced else []
    finally:
        if enforced:
            _pragma(driver, "foreign_keys = ON")
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise ConfigurationError(f"After the migration, rows of {tables} point at rows that are not there.")


def _pragma(driver: Any, text: str) -> list[Any]:
    """Ask the driver's connection itself: SQLAlchemy would begin a transaction, in which this one has no effect."""
    cursor = driver.cursor()
    cursor.execute(f"PRAGMA {text}")
    rows = list(cursor.fetchall())
    cursor.close()
    return rows


def _configure_offline(item: FoundDatabase, *, shared: bool) -> None:
    dialect = context.config.attributes.get("dialect") or item.db.source.dialect_name
    context.configure(
        dialect_name="mysql" if dialect == "mariadb" else dialect,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options_for(item, dialect, shared=shared),
    )


def options_for(item: FoundDatabase, dialect: str, *, shared: bool = False) -> dict[str, Any]:
    """Return the options of Alembic's context that are the same for every command."""
    options: dict[str, Any] = {
        "target_metadata": item.db.metadata,
        "compare_type": True,
        "render_as_batch": True,  # a revision made on PostgreSQL runs on SQLite too; elsewhere it is a plain ALTER
        "transaction_per_migration": True,
        "include_name": _is_ours,
        "render_item": _render_item,
        "process_revision_directives": _directives_for(item),
        "on_version_apply": _note_step,
    }
    if shared:
        options |= {"upgrade_token": f"{item.name}_upgrades", "downgrade_token": f"{item.name}_downgrades"}
    return options


def _note_step(*, step: Any, **_: Any) -> None:
    applied: list[Any] | None = context.config.attributes.get("applied")
    if applied is not None:
        applied.append(step)


def _is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave the tables of tools alone: version tables, and what the package keeps for itself."""
    return not (kind == "table" and name is not None and name.startswith(("alembic_version", "fastapi_sqlalchemy_")))


def _render_item(kind: str, item: Any, autogen_context: Any) -> Any:
    """Import the modules of types that are neither SQLAlchemy's nor Alembic's; Alembic writes their full names.

    What each database spells in a way of its own is written as the function that knows.
    """
    if kind == "type":
        module = type(item).__module__
        if module.partition(".")[0] not in ("sqlalchemy", "alembic"):
            autogen_context.imports.add(f"import {module}")
    if kind == "server_default" and isinstance(getattr(item, "arg", None), utc_timestamp):
        # as SQL it would be that of one database
        autogen_context.imports.add(f"import {types.__name__}")
        return f"{types.__name__}.utc_timestamp()"
    return False


def _directives_for(item: FoundDatabase) -> Callable[..., None]:
    def process(migration: MigrationContext, _revision: Any, directives: list[Any]) -> None:
        if not directives or not _is_autogenerate():
            return
        script = directives[0]
        connection = migration.connection
        if connection is not None:
            _add_enums(script.upgrade_ops_list[-1], script.downgrade_ops_list[-1], connection, item.db.metadata)
        last = item is databases_of(context.config)[-1] or len(databases_of(context.config)) == 1
        if last and all(operations.is_empty() for operations in script.upgrade_ops_list):
            directives[:] = []

    return process


def _is_autogenerate() -> bool:
    given = context.config.attributes.get("autogenerate")
    return bool(getattr(context.config.cmd_opts, "autogenerate", False) if given is None else given)


def _add_enums(upgrade: Any, downgrade: Any, connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Alembic sees no change of an enumerated type; and a type outlives the tables that it was made for."""
    made_by_tables = {
        kind.name
        for operation in upgrade.ops
        if isinstance(operation, ops.CreateTableOp)
        for kind in _enums_of(operation)
    }
    for change in enum_changes(connection, metadata):
        if change.stored is None:
            if change.name not in made_by_tables:
                upgrade.ops.insert(0, ops.ExecuteSQLOp(change.create))
            downgrade.ops.append(ops.ExecuteSQLOp(f"DROP TYPE IF EXISTS {change.identifier}"))
        else:
            for place, statement in enumerate(change.statements()):
                upgrade.ops.insert(place, ops.ExecuteSQLOp(statement))


def _enums_of(operation: Any) -> list[sa.Enum]:
    return [column.type for column in operation.columns if isinstance(getattr(column, "type", None), sa.Enum)]
