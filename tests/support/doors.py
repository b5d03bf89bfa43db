"""The four ways a session comes into a request: by the middleware or by a dependency, sync or async."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy

__all__ = ["DOORS", "Door", "count_rows", "make_database"]


@dataclass(frozen=True)
class Door:
    """One of the four; ``work(session)`` is written once and runs on the session of the door."""

    by: str
    asynchronous: bool

    def __str__(self) -> str:
        return f"{self.by}-{'async' if self.asynchronous else 'sync'}"

    def app(self, db: SQLAlchemy, **options: Any) -> FastAPI:
        """An application behind this door, its tables created."""
        app = FastAPI()
        if self.by == "middleware":
            app.add_middleware(DBSessionMiddleware, db=db, **options)
        db.create_all()
        return app

    def route(
        self,
        app: Any,
        db: SQLAlchemy,
        path: str,
        work: Callable[[Session], Any],
        *,
        method: str = "POST",
        **options: Any,
    ) -> None:
        """Serve ``work`` at ``path``."""
        endpoint: Callable[..., Any]
        if self.by == "middleware" and not self.asynchronous:

            def by_middleware() -> Any:
                return work(db.session)

            endpoint = by_middleware
        elif self.by == "middleware":

            async def by_middleware_async() -> Any:
                return await db.async_session.run_sync(work)

            endpoint = by_middleware_async
        elif not self.asynchronous:

            def by_dependency(session: Session = Depends(db.get_session)) -> Any:
                return work(session)

            endpoint = by_dependency
        else:

            async def by_dependency_async(session: AsyncSession = Depends(db.get_async_session)) -> Any:
                return await session.run_sync(work)

            endpoint = by_dependency_async
        app.add_api_route(path, endpoint, methods=[method], response_model=None, **options)


DOORS = tuple(Door(by, asynchronous) for by in ("middleware", "dependency") for asynchronous in (False, True))


def make_database(url: str, **options: Any) -> tuple[SQLAlchemy, Any]:
    """A database with one model: ``Item(id, name)``, the name unique."""
    db = SQLAlchemy(url, **options)

    class Item(db.Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(50), unique=True)

    return db, Item


def count_rows(db: SQLAlchemy, model: Any) -> int:
    """The rows that a connection of its own sees."""
    with db.engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(model)) or 0)
