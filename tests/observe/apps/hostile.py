"""An application whose statements and paths hold strings that would run a script."""

from __future__ import annotations

import os

from fastapi import FastAPI

from fastapi_sqlalchemy import DBSessionMiddleware, SQLAlchemy
from fastapi_sqlalchemy.observe.insight import Insight
from tests.admin.hostile import HOSTILE

db = SQLAlchemy(os.environ.get("HOSTILE_URL") or "sqlite://")
app = FastAPI(debug=True)
app.add_middleware(DBSessionMiddleware, db=db)
Insight(app, keep=300)


@app.get("/statements")
def statements() -> int:
    """Run one statement for each string, with the string in its text."""
    for text in HOSTILE:
        db.session.connection().exec_driver_sql("SELECT '{}'".format(text.replace("'", "''"))).all()
    return len(HOSTILE)


@app.get("/paths/{path:path}")
def path_of(path: str) -> int:
    """Answer below any path."""
    return len(path)
