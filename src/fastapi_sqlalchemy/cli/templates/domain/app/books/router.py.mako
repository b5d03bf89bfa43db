"""The routes of the books, written by hand."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, status
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.authors.models import Author
from app.books.models import Book
from app.books.schemas import BookIn, BookOut
from app.database import SessionDep

router = APIRouter(prefix="/books", tags=["books"])


<%include file="/parts/routes.mako" args="router='router'"/>\
