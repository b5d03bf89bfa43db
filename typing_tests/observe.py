"""Insight: the observers and what they tell."""

from __future__ import annotations

import logging
from typing import assert_type

from fastapi import FastAPI

from fastapi_sqlalchemy.observe.explain import Plan, aexplain, explain
from fastapi_sqlalchemy.observe.insight import Insight
from fastapi_sqlalchemy.observe.recorder import Recorder
from fastapi_sqlalchemy.observe.slow import SlowQueries
from fastapi_sqlalchemy.observe.statement import Statement

app = FastAPI()
insight = Insight(app, debug=None, server_timing=True, page=None, keep=10)
for seen in insight.log:
    assert_type(seen.statements, list[Statement])
    assert_type(seen.status, int | None)

slow_queries = SlowQueries(0.25, logger=logging.getLogger("slow"))
slow_queries.close()

with Recorder(limit=10) as recorder:
    assert_type(recorder.statements, list[Statement])
    assert_type(recorder.seconds, float)


async def plans(statement: Statement) -> None:
    assert_type(explain(statement), Plan)
    assert_type((await aexplain(statement, analyze=True)).full_scans, tuple[str, ...])
