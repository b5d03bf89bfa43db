"""An application over three databases, for the runs of pytest inside of the tests."""

import os
from typing import Any

import typer
from fastapi import BackgroundTasks, Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fastapi_sqlalchemy import AsyncSession, DBSessionMiddleware, SQLAlchemy

lite = SQLAlchemy(os.environ["SHOP_SQLITE"])
postgres = SQLAlchemy(os.environ["SHOP_POSTGRESQL"])
maria = SQLAlchemy(os.environ["SHOP_MARIADB"])
databases = {"lite": lite, "postgres": postgres, "maria": maria}
app = FastAPI()
app.add_middleware(DBSessionMiddleware, db=list(databases.values()))
cli = typer.Typer()
authors: dict[str, Any] = {}
books: dict[str, Any] = {}


def models(name: str, db: SQLAlchemy) -> None:
    class Author(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(100))
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(db.Base):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship(back_populates="books")

    authors[name], books[name] = Author, Book


def routes(name: str, db: SQLAlchemy) -> None:
    Author = authors[name]

    def later() -> None:
        Author.new(name="background")

    @app.post(f"/{name}/sync")
    def add(tasks: BackgroundTasks) -> int:
        tasks.add_task(later)
        Author.new(name="sync")
        return int(Author.query.count())

    @app.post(f"/{name}/async")
    async def add_async(session: AsyncSession = Depends(db.get_async_session)) -> int:
        session.add(Author(name="async"))
        await session.commit()
        return len((await session.scalars(select(Author))).all())

    @app.post(f"/{name}/engine")
    def add_by_engine() -> int:
        with db.engine.begin() as connection:
            connection.execute(Author.__table__.insert().values(name="engine"))
        with db.engine.connect() as connection:
            return int(connection.scalar(select(func.count()).select_from(Author)) or 0)


class BookRead(BaseModel):
    id: int


class AuthorRead(BaseModel):
    books: list[BookRead]


@app.get("/authors", response_model=list[AuthorRead])
def list_authors() -> Any:
    return authors["lite"].get_all()


@cli.command()
def add(name: str) -> None:
    with databases[name](commit_on_exit=True):
        authors[name].new(name="cli")


for name, db in databases.items():
    models(name, db)
    routes(name, db)
