"""The commands of migrations, for one database or all of a project."""

from __future__ import annotations

import functools
import io
import os
import traceback
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from ..discovery import FoundDatabase, find_databases
from ..exceptions import ConfigurationError, FastAPISQLAlchemyError
from ..web.startup import describe_failure
from .environment import databases_of, on_connection, options_for
from .layout import INI, sections_of, write_layout
from .linter import Warning_, lint
from .lock import PATIENCE
from .progress import unfinished
from .words import differences

__all__ = ["Difference", "Migrations", "Step"]

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One revision that was applied or taken back."""

    database: str
    revision: str
    message: str
    is_upgrade: bool


@dataclass(frozen=True)
class Difference:
    """What ``check`` found for one database: revisions to apply, and sentences about what differs from the models."""

    database: str
    pending: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether the database is at head and as the models say."""
        return not self.pending and not self.sentences


@dataclass
class _History:
    """One section of ``alembic.ini``: a history, and the databases that follow it."""

    name: str
    config: Config
    databases: list[FoundDatabase]
    shared: bool

    @property
    def script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self.config)


@dataclass
class Migrations:
    """The migrations of a project: ``ini`` is its alembic.ini, ``databases`` those that were found already.

    Every method does its work for all histories of the project, or for the one named ``only``. What is wrong with the
    request or the files is a `ConfigurationError`; what another process is in the way of, after ``lock_timeout``
    seconds, a `DatabaseUnavailableError`.
    """

    ini: Path = field(default_factory=lambda: Path.cwd() / INI)
    databases: Sequence[FoundDatabase] | None = None
    only: str | None = None
    lock_timeout: float = PATIENCE
    walked: list[Step] = field(default_factory=list[Step], init=False)
    """The revisions that the last `upgrade` or `downgrade` came through, also where a later one failed."""

    def init(self, folder: str = "migrations", *, shared: bool = False) -> list[Path]:
        """Write the files of migrations and return their paths."""
        root = self.ini.parent
        found = list(self.databases) if self.databases is not None else find_databases(folder=root)
        return write_layout(root, found, folder, shared=shared)

    def revision(
        self, message: str | None = None, *, autogenerate: bool = False, head: str = "head"
    ) -> list[tuple[Path, list[Warning_]]]:
        """Make a revision in each history; return its file and what is dangerous in it on PostgreSQL.

        With ``autogenerate`` it holds what differs between the models and the database, and there is none where
        nothing does.
        """
        made: list[tuple[Path, list[Warning_]]] = []
        for history in self._histories():
            if autogenerate:
                self._refuse_empty(history)
            history.config.attributes["autogenerate"] = autogenerate
            found = self._call(command.revision, history.config, message, autogenerate=autogenerate, head=head)
            scripts = found if isinstance(found, list) else [found]
            made += [
                (Path(script.path), self._lint(history, script)) for script in scripts if isinstance(script, Script)
            ]
        return made

    def upgrade(self, revision: str = "head") -> list[Step]:
        """Apply the revisions up to ``revision``; return those that were applied, oldest first."""
        return self._walk(command.upgrade, "heads" if revision == "head" else revision)

    def downgrade(self, revision: str) -> list[Step]:
        """Take back the revisions down to ``revision``, "base" or "-1" among others; return them, newest first."""
        return self._walk(command.downgrade, revision)

    def current(self) -> dict[str, list[str]]:
        """Return the revisions that each database is at, by its name; none for one without migrations."""
        return {item.name: self._heads_of(history, item) for history in self._histories() for item in history.databases}

    def unfinished(self) -> dict[str, list[str]]:
        """Return what was done of a revision that is not finished, by the name of the database, as statements.

        Only MariaDB and MySQL keep half of a revision; the next upgrade goes on behind it.
        """
        return {
            item.name: on_connection(item, unfinished) for history in self._histories() for item in history.databases
        }

    def heads(self) -> dict[str, list[str]]:
        """Return the newest revisions of each history, by its name."""
        return {history.name: list(self._call(history.script.get_heads)) for history in self._histories()}

    def history(self) -> dict[str, list[Script]]:
        """Return the revisions of each history, newest first."""
        return {history.name: self._call(_revisions, history.script) for history in self._histories()}

    def show(self, revision: str) -> list[Script]:
        """Return a revision, from each history that has it."""
        found = [script for history in self._histories() for script in _known(history.script, revision)]
        if not found:
            raise ConfigurationError(f"There is no revision {revision}.")
        return found

    def merge(self, message: str | None = None) -> list[Path]:
        """Join the heads of each history that has more than one; return the files."""
        made: list[Path] = []
        for history in self._histories():
            if len(history.script.get_heads()) > 1:
                script = self._call(command.merge, history.config, "heads", message=message or "merge")
                made += [Path(script.path)] if script is not None else []
        return made

    def stamp(self, revision: str) -> None:
        """Note that each database is at ``revision``, without running anything."""
        for history in self._histories():
            self._call(command.stamp, history.config, "heads" if revision == "head" else revision)

    def sql(self, revision: str = "head", *, downgrade: bool = False) -> str:
        """Return the statements of an upgrade (or, with ``downgrade``, of "from:to") without running them."""
        output = io.StringIO()
        histories = list(self._histories())
        several = len(histories) > 1
        for history in histories:
            history.config.output_buffer = output
            if several:
                output.write(f"-- {', '.join(item.name for item in history.databases)}\n\n")
            run = command.downgrade if downgrade else command.upgrade
            self._call(run, history.config, revision, sql=True)
        return output.getvalue()

    def check(self) -> list[Difference]:
        """Return, for each database, the revisions that wait and what differs from the models, in words."""
        found: list[Difference] = []
        for history in self._histories():
            self._refuse_empty(history)
            for item in history.databases:
                pending = self._call(self._pending, history, item)
                compare = functools.partial(_differences, item=item)
                found.append(Difference(item.name, tuple(pending), tuple(on_connection(item, compare))))
        return found

    def pending(self) -> dict[str, list[str]]:
        """Return the revisions that each database does not have yet, oldest first."""
        return {
            item.name: self._call(self._pending, history, item)
            for history in self._histories()
            for item in history.databases
        }

    def lint(self, revision: str | None = None) -> list[Warning_]:
        """Return what is dangerous on PostgreSQL in one revision, or in those that wait."""
        found: list[Warning_] = []
        for history in self._histories():
            names = [revision] if revision is not None else self._call(self._pending, history, history.databases[0])
            for name in names:
                for script in _known(history.script, name):
                    found += self._lint(history, script)
        return found

    def _histories(self) -> Iterator[_History]:
        sections = sections_of(self.ini)
        names = list(sections)
        if self.only is not None:
            if self.only not in sections:
                raise ConfigurationError(f"{self.ini.name} has no section {self.only}; it has: {', '.join(names)}.")
            names = [self.only]
        if self.databases is not None and len(names) > 1:
            specs = {part.strip() for name in names for part in sections[name].specs.split(",")}
            if not any(item.spec in specs for item in self.databases):
                given = ", ".join(item.spec for item in self.databases)
                raise ConfigurationError(
                    f"{self.ini.name} has no history of {given}; it has: {', '.join(sorted(specs))}."
                )
        for name in names:
            config = Config(str(self.ini), ini_section=name, stdout=io.StringIO(), cmd_opts=Namespace(quiet=True))
            if self.databases is not None:
                wanted = {part.strip() for part in sections[name].specs.split(",")}
                chosen = [item for item in self.databases if item.spec in wanted]
                if not chosen and len(names) > 1:
                    continue  # another database's history
                config.attributes["databases"] = chosen or list(self.databases)
            found = databases_of(config)
            config.attributes["databases"] = found
            config.attributes["lock_timeout"] = self.lock_timeout
            yield _History(name, config, found, sections[name].shared)

    def _walk(self, run: Callable[..., None], revision: str) -> list[Step]:
        self.walked = []
        for history in self._histories():
            steps: list[Any] = []
            history.config.attributes["applied"] = steps
            try:
                self._call(run, history.config, revision)
            finally:
                name = history.name if history.shared else history.databases[0].name
                self.walked += [_step(name, history.script, step) for step in steps]
        return self.walked

    def _heads_of(self, history: _History, item: FoundDatabase) -> list[str]:
        def read(connection: sa.Connection) -> list[str]:
            return sorted(MigrationContext.configure(connection).get_current_heads())

        return on_connection(item, read)

    def _pending(self, history: _History, item: FoundDatabase) -> list[str]:
        current = self._heads_of(history, item)
        script = history.script
        known = {revision.revision for revision in script.walk_revisions()}
        strange = [name for name in current if name not in known]
        if strange:
            raise ConfigurationError(
                f"The database {item.name} is at revision {', '.join(strange)}, which is not in {script.dir}. It was "
                "migrated by another release: deploy that one, or bring its files here."
            )
        done = {one.revision for one in script.iterate_revisions(tuple(current), "base")} if current else set[str]()
        return [
            revision.revision for revision in reversed(list(script.walk_revisions())) if revision.revision not in done
        ]

    def _lint(self, history: _History, script: Script) -> list[Warning_]:
        if all(item.db.source.dialect_name != "postgresql" for item in history.databases):
            return []
        output = io.StringIO()
        config = Config(str(self.ini), ini_section=history.name, output_buffer=output, stdout=io.StringIO())
        config.attributes.update(history.config.attributes, dialect="postgresql")
        down = script.down_revision
        start = "base" if down is None else down if isinstance(down, str) else down[0]
        try:
            command.upgrade(config, f"{start}:{script.revision}", sql=True)
        except Exception as error:  # it asks the database something, which nobody answers offline
            reason = f"could not be looked through without a database ({type(error).__name__})"
            return [Warning_(f"revision {script.revision}", reason)]
        return lint(output.getvalue())

    @staticmethod
    def _refuse_empty(history: _History) -> None:
        for item in history.databases:
            if not item.db.metadata.tables:
                raise ConfigurationError(
                    f"The database {item.name} has no models, so every table would seem to be too many. Import them "
                    'where it is made, or list their modules: [tool.fastapi-sqlalchemy] models = ["app.models"].'
                )

    @staticmethod
    def _call(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Revision .* is not present", UserWarning)
                return function(*arguments, **options)
        except CommandError as error:
            raise ConfigurationError(_in_words(error)) from None
        except UserWarning as error:
            raise ConfigurationError(
                f"{error}. Bring its file back, or mend the down_revision that names it."
            ) from None
        except (FastAPISQLAlchemyError, SQLAlchemyError):
            raise
        except Exception as error:
            place = _place_in_a_revision(error)
            if place is None:
                raise
            raise ConfigurationError(f"{place}: {describe_failure(error)}") from error


def _in_words(error: CommandError) -> str:
    text = " ".join(str(error).split())
    if text.startswith("Can't locate revision"):
        text += ": no file of this project has it. Those there are: fastapi-sqlalchemy db history. Where a database is "
        text += "at it, another release has migrated it: deploy that one, or bring its files here."
    return text


def _place_in_a_revision(error: Exception) -> str | None:
    """The file and line of a revision in which an error was raised; None where it was raised elsewhere."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{os.path.relpath(error.filename)}, line {error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent.name == "versions"
    ]
    return None if not frames else f"{os.path.relpath(frames[-1].filename)}, line {frames[-1].lineno}"


def _differences(connection: sa.Connection, item: FoundDatabase) -> list[str]:
    return differences(connection, item.db.metadata, options_for(item, connection.dialect.name))


def _revisions(script: ScriptDirectory) -> list[Script]:
    return list(script.walk_revisions())


def _known(script: ScriptDirectory, revision: str) -> list[Script]:
    try:
        return list(script.get_revisions(revision))
    except CommandError:
        return []


def _step(database: str, script: ScriptDirectory, step: Any) -> Step:
    names = step.up_revision_ids or step.down_revision_ids
    name = str(names[0]) if names else ""
    found = _known(script, name)
    return Step(database, name, found[0].doc if found else "", bool(step.is_upgrade))
