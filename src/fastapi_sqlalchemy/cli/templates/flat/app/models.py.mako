"""The tables."""

from fastapi_sqlalchemy.models.mixins import TimestampMixin
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base


<%include file="/parts/author.mako"/>

<%include file="/parts/book.mako"/>\
