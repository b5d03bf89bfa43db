"""The database, and nothing else."""

import os

from fastapi_sqlalchemy import SQLAlchemy

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///./app.db")

db = SQLAlchemy(DATABASE_URL)
