"""The command: which checks are made of a database, and what is told of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy import Connection
from sqlalchemy import exc as sa_exc

from ...config import masked
from ...discovery import find_databases
from ...engines.sqlite import is_memory_url
from ...exceptions import FastAPISQLAlchemyError, MissingDriverError
from ...migrations.environment import connected
from ..options import Db, Json
from ..table import print_line
from . import mysql, postgresql, sqlite
from .clock import check_clock
from .extras import check_extras
from .finding import Check, Finding, Level, Patient, error, ok, reason, warning
from .models import check_models
from .pool import check_pool
from .replicas import check_replicas
from .schema import check_tables

__all__ = ["doctor", "examine"]

_FAILURES = (sa_exc.SQLAlchemyError, FastAPISQLAlchemyError, OSError)
_OF_DIALECT: dict[str, tuple[Check, ...]] = {
    "sqlite": sqlite.CHECKS,
    "postgresql": postgresql.CHECKS,
    "mysql": mysql.CHECKS,
    "mariadb": mysql.CHECKS,
}
_COLOURS = {Level.OK: typer.colors.GREEN, Level.WARNING: typer.colors.YELLOW, Level.ERROR: typer.colors.RED}


def doctor(
    db: Db = None,
    workers: Annotated[int, typer.Option(min=1, help="How many processes are meant to serve.")] = 1,
    as_json: Json = False,
) -> None:
    """Look for what is wrong with the databases, and say how it is cured.

    Exit codes: 0 all is well; 1 the worst is a warning; 2 an error, or nothing could be looked at; 130 interrupted.
    """
    examined = {item.name: list(examine(Patient(item, workers))) for item in find_databases(db)}
    extras = check_extras()
    worst = max((finding.level for found in examined.values() for finding in found), key=lambda level: level.exit_code)
    if as_json:
        told: dict[str, Any] = {
            "level": worst,
            "databases": {name: [asdict(finding) for finding in found] for name, found in examined.items()},
            "project": [asdict(extras)],
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        for name, found in examined.items():
            _tell(name, found)
        _tell("project", [extras])
    if worst.exit_code:
        raise typer.Exit(worst.exit_code)


def examine(patient: Patient) -> Iterator[Finding]:
    """Make every check that is meant for the database; what the server alone can say is left out where it is away."""
    url = patient.source.url
    yield ok("url", masked(url))
    yield from check_models(patient)
    try:
        yield from check_pool(patient)
        if url.get_backend_name() == "sqlite" and not is_memory_url(url) and _is_absent(str(url.database)):
            yield warning(
                "server",
                f"There is no file {url.database} yet.",
                "fastapi-sqlalchemy db upgrade makes it, or the first start without migrations.",
            )
            return
        yield from connected(patient.source, lambda connection: list(_ask(patient, connection)))
    except MissingDriverError as failure:
        yield error("driver", str(failure), "Install it.")
        return
    except _FAILURES as failure:
        yield _unreachable(failure)
    yield from check_replicas(patient)


def _ask(patient: Patient, connection: Connection) -> Iterator[Finding]:
    checks = (_check_server, *_OF_DIALECT.get(connection.dialect.name, ()), check_clock, check_tables)
    for check in checks:
        try:
            yield from check(patient, connection)
        except sa_exc.DBAPIError as failure:
            if failure.connection_invalidated:
                raise
            connection.rollback()
            yield warning(
                check.__name__.strip("_").replace("_", " "),
                f"It could not be asked: {reason(failure)}.",
                "Look with an account that may.",
            )


def _check_server(_patient: Patient, connection: Connection) -> Iterable[Finding]:
    dialect: Any = connection.dialect
    version = ".".join(str(part) for part in dialect.server_version_info or ())
    name = "MariaDB" if getattr(dialect, "is_mariadb", False) else dialect.name
    driver = getattr(dialect.loaded_dbapi, "__version__", "")
    yield ok("server", f"{name} {version}, by {dialect.driver} {driver}".strip() + ".")


def _unreachable(failure: BaseException) -> Finding:
    told = reason(failure)
    if "unsupported startup parameter" in told:
        return error(
            "pooler",
            f"PgBouncer refuses the connection: {told}.",
            'SQLAlchemy(url, pooler="pgbouncer"), in transaction mode or not.',
        )
    return error(
        "server",
        f"The server cannot be asked: {told}.",
        "See that it runs, and that host, port, user, password and database of the URL are right.",
    )


def _is_absent(database: str) -> bool:
    return not database.startswith("file:") and not os.path.exists(database)


def _tell(title: str, findings: Iterable[Finding]) -> None:
    print_line(sys.stdout, title)
    for finding in findings:
        level = f"{finding.level:<7}"
        shown = typer.style(level, fg=_COLOURS[finding.level]) if sys.stdout.isatty() else level
        sys.stdout.write(f"  {shown}  ")
        print_line(sys.stdout, f"{finding.check}: {finding.sentence}")
        if finding.cure is not None:
            print_line(sys.stdout, f"           Cure: {finding.cure}")
