"""``fastapi-sqlalchemy doctor``: what is wrong with the databases of a project, and the cure."""

from .command import doctor as doctor

__all__ = ["doctor"]
