"""`/v1/engine`, `/v1/status`, `/v1/gpus`, `/v1/events`, history, SQL and backup: the engine and the box as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from typing import Annotated

import duckdb
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.responses import StreamingResponse

from llmops_tui.data import queries
from llmops_tui.data.backup import backup
from llmops_tui.data.sql_sandbox import user_sql
from llmops_tui.engine.answering import EngineParts, Moment, answer, caller_path, event_stream
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.stream import engine_stream
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Done, EngineEvent, EngineEvents, EngineInfo, GpuSample, HostHistory, NotifyTest, SqlAnswer, Status
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.settings import Settings

_BIGGEST = 2**63 - 1
_LONGEST_HISTORY_SECONDS = 366 * 86_400.0
router = APIRouter(tags=["engine"])


class SqlRequest(StrictModel):
    query: str = Field(min_length=1)
    limit: int = Field(1000, ge=1, le=100_000)


class BackupRequest(StrictModel):
    path: str


@router.get("/engine", response_model=EngineInfo)
async def show_engine(parts: EngineParts) -> Response:
    """The daemon itself."""
    return answer(parts.info())


@router.post("/engine/stop", response_model=Done)
async def stop_engine(parts: EngineParts) -> Response:
    """Stop the engine once this was answered. Jobs go on; the next engine adopts them."""
    # The answer leaves first: a server that is stopping closes its connections.
    asyncio.get_running_loop().call_later(0.05, parts.stopping.set)
    return answer(Done(done="the engine stops; jobs go on"))


@router.post("/engine/notify-test", response_model=NotifyTest)
async def test_notifications(parts: EngineParts) -> Response:
    """Send a test by every way the settings name, and say what became of it; 409 where they name none."""
    return answer(NotifyTest(results=await parts.notifier.test()))


@router.get("/status", response_model=Status)
async def show_status(parts: EngineParts) -> Response:
    """Everything the first screen needs, from memory."""
    return answer(parts.status())


@router.get("/settings", response_model=Settings)
async def show_settings(parts: EngineParts) -> Response:
    """The settings in force; how the engine notifies, which may hold a secret, for admins alone."""
    return answer(parts.settings.model_dump(mode="json", exclude=None if who_asks().role == "admin" else {"notify"}))


@router.get("/gpus", response_model=list[GpuSample])
async def list_gpus(parts: EngineParts) -> Response:
    """The newest sample of every GPU, with the runs that hold it."""
    return answer(parts.gpu_samples())


@router.get("/host/history", response_model=HostHistory)
async def host_history(
    parts: EngineParts,
    seconds: Annotated[float, Query(gt=0, le=_LONGEST_HISTORY_SECONDS)] = 600.0,
    start: Moment | None = None,
    end: Moment | None = None,
    points: Annotated[int, Query(ge=1, le=10_000)] = 600,
) -> Response:
    """Samples of the box and its GPUs over the `seconds` before `end` (unset: now), or since `start`."""
    last = time.time() if end is None else end
    if start is not None and not 0 < last - start <= _LONGEST_HISTORY_SECONDS:
        raise UsageError(f"start {start:g} is not before end {last:g}, or more than a year before it", "give Unix seconds, start first")
    return answer(await asyncio.to_thread(parts.samples.history, seconds if start is None else last - start, last, points))


@router.get("/events", response_class=StreamingResponse)
async def follow_events(
    parts: EngineParts,
    request: Request,
    after: Annotated[int | None, Query(ge=0, le=_BIGGEST)] = None,
    epoch: str = "",
) -> StreamingResponse:
    """Server-sent events after number `after` (unset: from now on); `event: hello` names the epoch the numbers belong to.

    With the `epoch` of an earlier stream and another database meanwhile, everything of the new one is sent.
    """
    with contextlib.suppress(KeyError, ValueError):
        after = int(request.headers["last-event-id"])
    newest = parts.hub.last_seq
    start = newest if after is None else max(0, min(after, newest))
    if epoch and epoch != parts.store.epoch:
        start = 0
    return event_stream(engine_stream(parts.hub, parts.store.epoch, start, parts.hanging_up))


@router.get("/events/list", response_model=EngineEvents)
async def list_events(
    parts: EngineParts,
    after: Annotated[int, Query(ge=0, le=_BIGGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    before: Annotated[int | None, Query(ge=0, le=_BIGGEST)] = None,
    since: Moment | None = None,
    until: Moment | None = None,
    type: Annotated[str, Query(max_length=1000)] = "",
    run: Annotated[str, Query(max_length=200)] = "",
    newest: bool = False,
) -> Response:
    """The engine's events after number `after`, oldest first; with `newest` the last `limit` of them.

    `type` may name several, separated by commas, or with a leading - what to leave out; `since` and `until` are Unix seconds.
    """
    types = [name for name in type.split(",") if name]

    def read(con: duckdb.DuckDBPyConnection) -> list[EngineEvent]:
        return queries.engine_events(con, after, limit, before=before, since=since, until=until, types=types, run=run, newest=newest)

    return answer(EngineEvents(epoch=parts.store.epoch, events=await asyncio.to_thread(parts.store.read, read)))


@router.post("/sql", response_model=SqlAnswer)
async def run_sql(parts: EngineParts, request: SqlRequest) -> Response:
    """One reading statement on the database, without a way to files or settings."""
    return answer(await parts.slowly(parts.store.read, lambda con: user_sql(con, request.query, request.limit)))


@router.post("/backup", response_model=Done)
async def back_up(parts: EngineParts, request: BackupRequest) -> Response:
    """Copy the database into a new file while the engine works; root's engine writes it with the rights of the one who asks."""
    target, uid = caller_path("/", request.path), who_asks().uid
    put = partial(parts.on_behalf.put_file, uid) if os.geteuid() == 0 and uid != 0 else None
    size = await parts.slowly(backup, parts.store, target, put)
    return answer(Done(done=f"{target}: {size} bytes"))
