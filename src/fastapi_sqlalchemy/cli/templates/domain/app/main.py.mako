"""The application; the database starts and ends with it."""

from fastapi import FastAPI
from fastapi_sqlalchemy.web.health import health_router

from app.authors.router import router as authors
from app.books.router import router as books
from app.database import db

app = FastAPI(title="${name}", lifespan=db.lifespan)
app.include_router(health_router(db))
app.include_router(authors)
app.include_router(books)
