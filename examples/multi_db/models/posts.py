"""The posts and their database."""

import os

from sqlalchemy import Column, Integer, String, Text

from fastapi_sqlalchemy import SQLAlchemy

post_db = SQLAlchemy(url=os.environ.get("POST_DATABASE_URL", "sqlite:///posts.db"))


class Post(post_db.Base):
    """A post of a user; the user lives in another database, so there is no foreign key."""

    __tablename__ = "posts"

    id = Column(Integer, primary_key=True)
    user_id = Column(Integer, index=True)
    title = Column(String(200))
    content = Column(Text)
