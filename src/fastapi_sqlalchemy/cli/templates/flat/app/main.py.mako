"""The application; the database starts and ends with it."""

from fastapi import FastAPI
from fastapi_sqlalchemy.web.health import health_router

from app.database import db
from app.routers import authors, books

app = FastAPI(title="${name}", lifespan=db.lifespan)
app.include_router(health_router(db))
app.include_router(authors)
app.include_router(books)
