"""What is sent and answered where a route is written by hand."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]


class BookIn(BaseModel):
    """A new book; its author is named, and added where nobody has that name."""

    title: Annotated[str, Field(min_length=1, max_length=300)]
    isbn: Annotated[str, Field(pattern=r"^(97[89])?[0-9]{9}[0-9X]$")]
    author: Name


class AuthorOut(BaseModel):
    """The author in a book."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


class BookOut(BaseModel):
    """A book as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    isbn: str
    author: AuthorOut
