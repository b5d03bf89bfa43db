"""Hand-written FastAPI and SQLAlchemy as in the tutorials: the measure of all ratios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session, selectinload, sessionmaker

from benchmarks.models import URL, Author, AuthorOut, User, UserIn, UserOut, sync_url

connect_args = {"check_same_thread": False} if URL.startswith("sqlite") else {}
engine = create_engine(sync_url(URL), connect_args=connect_args)
SessionLocal = sessionmaker(autoflush=False, bind=engine)
app = FastAPI()


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
def read_user(user_id: int, db: Session = Depends(get_db)) -> User:
    user = db.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
def read_users(limit: int = 100, db: Session = Depends(get_db)) -> list[User]:
    return list(db.scalars(select(User).order_by(User.id).limit(limit)))


class Counted(BaseModel):
    items: list[UserOut]
    total: int


@app.get("/counted", response_model=Counted)
def read_counted(limit: int = 100, db: Session = Depends(get_db)) -> Any:
    users = db.scalars(select(User).order_by(User.id).limit(limit)).all()
    return {"items": users, "total": db.scalar(select(func.count()).select_from(User))}


@app.get("/filtered", response_model=list[UserOut])
def read_filtered(city: str, limit: int = 20, db: Session = Depends(get_db)) -> list[User]:
    found = select(User).where(User.city == city).order_by(User.age.desc(), User.id.desc()).limit(limit)
    return list(db.scalars(found))


@app.get("/authors", response_model=list[AuthorOut])
def read_authors(limit: int = 20, db: Session = Depends(get_db)) -> list[Author]:
    found = select(Author).options(selectinload(Author.books)).order_by(Author.id).limit(limit)
    return list(db.scalars(found))


@app.post("/users", response_model=UserOut, status_code=201)
def create_user(new: UserIn, db: Session = Depends(get_db)) -> User:
    user = User(**new.model_dump())
    db.add(user)
    db.commit()
    db.refresh(user)
    return user
