"""Hand-written FastAPI and SQLAlchemy as in the tutorials: the measure of all ratios."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.models import URL, User, UserIn, UserOut, sync_url

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


@app.post("/users", response_model=UserOut, status_code=201)
def create_user(new: UserIn, db: Session = Depends(get_db)) -> User:
    user = User(**new.model_dump())
    db.add(user)
    db.commit()
    db.refresh(user)
    return user
