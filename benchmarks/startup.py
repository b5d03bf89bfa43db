"""How long an application with many models takes to start: ``python -m benchmarks.startup 500`` prints seconds."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(number: int) -> None:
    """Build ``number`` models with routers, and the OpenAPI document of all."""
    started = time.process_time()
    from fastapi import FastAPI
    from sqlalchemy import Column, ForeignKey, Integer, String

    from fastapi_sqlalchemy import SQLAlchemy
    from fastapi_sqlalchemy.rest import CRUDRouter

    imported = time.process_time()
    db = SQLAlchemy("sqlite://")
    models: list[Any] = []
    for index in range(number):
        columns: dict[str, Any] = {
            "__tablename__": f"table_{index}",
            "id": Column(Integer, primary_key=True),
            "name": Column(String(50), unique=True),
            "size": Column(Integer, nullable=False),
            "next_id": Column(ForeignKey(f"table_{max(0, index - 1)}.id")),
        }
        models.append(type(f"Model{index}", (db.Base,), columns))
    declared = time.process_time()
    app = FastAPI()
    for model in models:
        app.include_router(CRUDRouter(model, db=db))
    routed = time.process_time()
    document = app.openapi()
    assert len(document["paths"]) >= 2 * number
    described = time.process_time()
    seconds = {
        "import": imported - started,
        "models": declared - imported,
        "routers": routed - declared,
        "openapi": described - routed,
        "all": described - started,
    }
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]))
