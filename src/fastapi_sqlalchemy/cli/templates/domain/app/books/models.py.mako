"""The table of the books."""

from fastapi_sqlalchemy.models.mixins import TimestampMixin
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.authors.models import Author
from app.database import Base


<%include file="/parts/book.mako"/>\
