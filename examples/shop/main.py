"""The routes of the shop: generated for items and orders, written by hand for signing up."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, select, update

from fastapi_sqlalchemy import Session
from fastapi_sqlalchemy.rest import CRUDRouter

from .models import Item, Order, User, db

SessionDep = Annotated[Session, Depends(db.get_session)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def hashed(token: str) -> str:
    """What is stored of a token; a token is 256 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def current_user(credentials: Bearer, session: SessionDep) -> User:
    """The user whose token the request carries; 401 where there is none."""
    if credentials is not None:
        user = session.scalar(select(User).where(User.token_hash == hashed(credentials.credentials)))
        if user is not None:
            return user
    raise HTTPException(401, "Send the token of a user.", {"WWW-Authenticate": "Bearer"})


CurrentUser = Annotated[User, Depends(current_user)]


def staff(user: CurrentUser) -> None:
    """Only for staff; 403 for others."""
    if not user.is_staff:
        raise HTTPException(403, "Only staff may do this.")


def own_orders(user: CurrentUser) -> ColumnElement[bool]:
    """Which orders the caller sees; a new order gets this owner."""
    return Order.owner_id == user.id


class NewOrder(BaseModel):
    """What a customer sends; the owner and the total are not his to say."""

    model_config = ConfigDict(extra="forbid")

    item_id: int
    quantity: int = Field(1, ge=1, le=100)


class Stock:
    """Takes what is ordered out of the stock, in the transaction of the order."""

    @staticmethod
    def before_create(session: Session, values: dict[str, Any]) -> None:
        """Reserve the items and work out the total; 409 where there are too few."""
        quantity = values["quantity"]
        taken = update(Item).where(Item.id == values["item_id"], Item.stock >= quantity)
        if session.connection().execute(taken.values(stock=Item.stock - quantity)).rowcount == 0:
            raise HTTPException(409, "There are not that many of this item.")
        price: Decimal = session.scalars(select(Item.price).where(Item.id == values["item_id"])).one()
        values["total"] = price * quantity


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Tables first; then, where STAFF_TOKEN is given, somebody who can fill the shelves."""
    async with db.lifespan(app):
        token = os.environ.get("STAFF_TOKEN")
        with db(commit_on_exit=True):
            if token and User.get(email="staff@example.com") is None:
                User.new(name="Staff", email="staff@example.com", is_staff=True, token_hash=hashed(token))
        yield


app = FastAPI(title="Shop", lifespan=lifespan)
for_staff = {operation: [Depends(staff)] for operation in ("create", "update", "delete")}
app.include_router(
    CRUDRouter(
        Item,
        db=db,
        prefix="/items",
        operations=("list", "read", "create", "update", "delete"),
        operation_dependencies=for_staff,
    )
)
app.include_router(
    CRUDRouter(
        Order,
        db=db,
        prefix="/orders",
        operations=("list", "read", "create"),
        create_schema=NewOrder,
        scope_query=own_orders,
        hooks=Stock,
    )
)


class SignUp(BaseModel):
    """A new customer."""

    name: str = Field(max_length=100)
    email: str = Field(max_length=255)


class SignedUp(BaseModel):
    """The customer's number, and the token that is shown this once."""

    id: int
    token: str


@app.post("/users", status_code=201, tags=["User"])
def sign_up(new: SignUp) -> SignedUp:
    """Become a customer; an address that is taken is a 409."""
    token = secrets.token_urlsafe(32)
    user = User.new(**new.model_dump(), token_hash=hashed(token))
    return SignedUp(id=user.id, token=token)


@app.get("/me", tags=["User"])
def me(user: CurrentUser) -> dict[str, Any]:
    """Who the token belongs to, and how much was spent."""
    return {"id": user.id, "name": user.name, "spent": sum((order.total for order in user.orders), Decimal(0))}
