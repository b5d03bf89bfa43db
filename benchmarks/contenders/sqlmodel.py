"""SQLModel as its documentation writes it, in an environment of its own."""

from collections.abc import Iterator

from fastapi import Depends, FastAPI, HTTPException
from sqlmodel import Field, Session, SQLModel, create_engine, select

from benchmarks.urls import URL, sync_url

engine = create_engine(sync_url(), connect_args={"check_same_thread": False} if URL.startswith("sqlite") else {})
app = FastAPI()


class UserBase(SQLModel):
    name: str
    email: str
    age: int
    city: str
    is_active: bool = True


class User(UserBase, table=True):
    __tablename__ = "bench_user"

    id: int | None = Field(default=None, primary_key=True)


class UserOut(UserBase):
    id: int


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/users/{user_id}", response_model=UserOut)
def read_user(user_id: int, session: Session = Depends(get_session)) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/users", response_model=list[UserOut])
def read_users(limit: int = 100, session: Session = Depends(get_session)) -> list[User]:
    return list(session.exec(select(User).order_by(User.id).limit(limit)).all())


@app.post("/users", response_model=UserOut, status_code=201)
def create_user(new: UserBase, session: Session = Depends(get_session)) -> User:
    user = User.model_validate(new)
    session.add(user)
    session.commit()
    session.refresh(user)
    return user
