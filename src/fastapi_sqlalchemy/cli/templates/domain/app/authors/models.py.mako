"""The table of the authors."""

from fastapi_sqlalchemy.models.mixins import TimestampMixin
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


<%include file="/parts/author.mako"/>\
