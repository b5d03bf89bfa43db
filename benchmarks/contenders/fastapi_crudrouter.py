"""fastapi-crudrouter's generated routes, in an environment of its own with the versions that it needs."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi_crudrouter import SQLAlchemyCRUDRouter
from pydantic import BaseModel
from sqlalchemy import Boolean, Column, Integer, String, create_engine
from sqlalchemy.orm import Session, declarative_base, sessionmaker

from benchmarks.urls import URL

engine = create_engine(
    URL.replace("postgresql://", "postgresql+psycopg2://").replace("mysql://", "mysql+pymysql://"),
    connect_args={"check_same_thread": False} if URL.startswith("sqlite") else {},
)
make_session = sessionmaker(autoflush=False, bind=engine)
Base = declarative_base()
app = FastAPI()


class User(Base):
    __tablename__ = "bench_user"

    id = Column(Integer, primary_key=True)
    name = Column(String(50))
    email = Column(String(100), unique=True)
    age = Column(Integer)
    city = Column(String(50))
    is_active = Column(Boolean)


class UserIn(BaseModel):
    name: str
    email: str
    age: int
    city: str
    is_active: bool = True


class UserOut(UserIn):
    id: int

    class Config:
        orm_mode = True


def get_session() -> Iterator[Session]:
    session = make_session()
    try:
        yield session
    finally:
        session.close()


@app.get("/plain")
async def plain() -> dict:
    return {"ok": True}


app.include_router(
    SQLAlchemyCRUDRouter(
        schema=UserOut,
        create_schema=UserIn,
        db_model=User,
        db=get_session,
        prefix="users",
        delete_all_route=False,
        paginate=1000,
    )
)
