"""The routes: those of authors are generated, those of books are written by hand."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, status
from fastapi_sqlalchemy.rest import CRUDRouter
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.database import SessionDep, db
from app.models import Author, Book
from app.schemas import BookIn, BookOut

authors = CRUDRouter(Author, db=db, prefix="/authors", tags=["authors"])
books = APIRouter(prefix="/books", tags=["books"])


<%include file="/parts/routes.mako" args="router='books'"/>\
