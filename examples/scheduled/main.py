"""A task outside of any request: a scheduler counts the users and saves the count."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from sqlalchemy import Column, DateTime, Integer, String, func

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy

db = SQLAlchemy(os.environ.get("DATABASE_URL", "sqlite:///scheduled.db"))
SECONDS = float(os.environ.get("COUNT_EVERY", "86400"))


class User(db.Base):
    """A user."""

    id = Column(Integer, primary_key=True)
    name = Column(String(100))


class UserCount(db.Base):
    """How many users there were at a time."""

    id = Column(Integer, primary_key=True)
    count = Column(Integer)
    counted_at = Column(DateTime, server_default=func.now())


def count_users_task() -> None:
    """Count the users and save the count; there is no request here, so the task opens a scope of its own."""
    with db():
        user_count = User.query.count()
        UserCount(count=user_count).save()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Run the scheduler as long as the application runs."""
    scheduler = AsyncIOScheduler(timezone=dt.UTC)
    scheduler.add_job(count_users_task, "interval", seconds=SECONDS)
    scheduler.start()
    yield
    scheduler.shutdown()


app = FastAPI(title="Scheduled task", lifespan=lifespan)
app.add_middleware(DBSessionMiddleware, db=db)


@app.post("/users", status_code=201)
def add_user(name: str):
    """A new user."""
    return User.new(name=name)


@app.get("/counts")
def get_counts():
    """The counts so far."""
    return UserCount.query.order_by(UserCount.id).all()
