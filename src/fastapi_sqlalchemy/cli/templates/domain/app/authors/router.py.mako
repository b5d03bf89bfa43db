"""The routes of the authors, generated from the model."""

from fastapi_sqlalchemy.rest import CRUDRouter

from app.authors.models import Author
from app.database import db

router = CRUDRouter(Author, db=db, prefix="/authors", tags=["authors"])
