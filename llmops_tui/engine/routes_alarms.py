"""`/v1/alarms…` and a run's watchers: what fired, the rows behind it, who has seen it, and how the rules stand now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from llmops_tui.data.event_store import read_position
from llmops_tui.engine.alarm_rows import rows_of_step
from llmops_tui.engine.answering import EngineParts, Moment, answer
from llmops_tui.engine.people import who_asks
from llmops_tui.specs.answers_watch import Alarm, AlarmRow, AlarmRows, WatchState

router = APIRouter(tags=["alarms"])


@router.get("/alarms", response_model=list[Alarm])
async def list_alarms(
    parts: EngineParts,
    run: str = "",
    since: Moment | None = None,
    acked: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """The newest `limit` alarms of one run or of all, the oldest first; `acked` chooses those seen or not yet seen."""
    runs = [parts.scheduler.one(run).id] if run else [one.id for one in parts.scheduler.runs()]
    return answer(parts.watch.book.find(runs, since=since, acked=acked)[-limit:])


@router.post("/alarms/{identity}/ack", response_model=Alarm)
async def ack_alarm(parts: EngineParts, identity: str) -> Response:
    """Say that it was seen. The first to say so stays."""
    return answer(await parts.watch.book.ack(identity, who_asks().user))


@router.get("/alarms/{identity}/rows", response_model=AlarmRows)
async def show_rows(parts: EngineParts, identity: str) -> Response:
    """The rows of the data file that the alarm's step learnt from, as the asker may read them."""
    alarm = parts.watch.book.get(identity)
    run = parts.scheduler.one(alarm["run"])
    numbers = await asyncio.to_thread(rows_of_step, run.dir, alarm["attempt"], alarm["step"])
    prepared = run.record.get("prepared")
    dataset = prepared.get("dataset") if isinstance(prepared, dict) else None
    path = str(dataset.get("path") or "") if isinstance(dataset, dict) else ""
    rows, problem = [AlarmRow(number=number, text="") for number in numbers], ""
    if not numbers:
        problem = "which rows it were is not known: only a train run notes them, and those of its last 2,000 steps"
    elif path:
        rows, problem = await parts.slowly(parts.on_behalf.row_texts, who_asks().uid, Path(path), numbers)
    return answer(AlarmRows(id=identity, step=alarm["step"], file=path, rows=rows, problem=problem))


@router.get("/runs/{run_id}/watchers", response_model=WatchState)
async def show_watchers(parts: EngineParts, run_id: str) -> Response:
    """Every rule that watches a run as it stands, with its thresholds and its false-alarm rate, and the run's alarms."""
    run = parts.scheduler.one(run_id)
    position = await asyncio.to_thread(parts.store.read, lambda con: read_position(con, run.id))
    return answer(await parts.watch.state(run, position.offset if position else 0))
