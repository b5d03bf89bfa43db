"""A route without a database and without any middleware: what the plain route of the others is compared with."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}
