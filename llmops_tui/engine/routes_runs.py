"""`/v1/runs…`: submitting, reading, steering and following runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, field_validator
from starlette.responses import StreamingResponse

from llmops_tui.data import queries
from llmops_tui.data.annotation import Annotation
from llmops_tui.data.masking import without_secrets
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.answering import EngineParts, Moment, answer, caller_directory, event_stream
from llmops_tui.engine.peers import owner_of
from llmops_tui.engine.people import who_asks
from llmops_tui.engine.run_pages import MOST_COLUMNS, page, read_wish
from llmops_tui.engine.stream import run_stream
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.specs.answers import Comparison, Done, RunDetail, RunEvents, RunPage, RunSummary, Series, SeriesAnswer, Submission
from llmops_tui.specs.common import StrictModel
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.states import ENDED, JOB_KINDS, STATES

_MOST_METRICS = 64
_LONG_FILTER = 300
_BIGGEST = 2**63 - 1
router = APIRouter(tags=["runs"])


class SubmitRequest(StrictModel):
    """A spec as the user wrote it; relative paths are meant from `cwd`."""

    spec: dict[str, Any]
    cwd: str = "/"
    dry_run: bool = False


class StopRequest(StrictModel):
    mode: Literal["now", "checkpoint"] = "now"


class PriorityRequest(StrictModel):
    priority: int = Field(ge=-100, le=100)


class MoveRequest(StrictModel):
    position: int = Field(ge=1, le=10**6, description="1 is first")


class AnnotateRequest(StrictModel):
    """What is said about a run; null leaves it as it is."""

    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(None, max_length=64)
    note: str | None = Field(None, max_length=16_384)
    baseline: bool | None = None

    @field_validator("tags")
    @classmethod
    def _words(cls, tags: list[str] | None) -> list[str] | None:
        if tags is None:
            return None
        for tag in tags:
            if not tag.isprintable() or tag != tag.strip():
                raise ValueError(f"the tag {tag!r} has control characters, or spaces around it")
        return list(dict.fromkeys(tags))

    @field_validator("note")
    @classmethod
    def _whole_characters(cls, note: str | None) -> str | None:
        try:
            (note or "").encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a character: write it as UTF-8 text") from None
        return note


@router.get("/runs", response_model=RunPage)
async def list_runs(
    parts: EngineParts,
    state: str = "",
    kind: str = "",
    filter: str = "",
    sort: Annotated[str, Query(max_length=200)] = "",
    descending: bool | None = None,
    column: Annotated[list[str] | None, Query(max_length=MOST_COLUMNS)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=_BIGGEST)] = 0,
    around: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """Runs, newest first unless sorted otherwise. `state` and `kind` may name several, separated by commas; `filter` is the
    language of docs/runs.md; `sort` one of submitted, started, ended, duration, id, state, kind, name, owner, priority, attempt or
    a column; `column` a `cfg.…` or `metric.…`; `around` a run that shall be on the page if it matches."""
    wish = read_wish(
        filter=filter, states=_choice("state", state, STATES), kinds=_choice("kind", kind, JOB_KINDS), sort=sort,
        descending=descending, columns=column or (), limit=limit, offset=offset, around=around,
    )  # fmt: skip
    runs = list(parts.scheduler.runs())
    if len(filter) > _LONG_FILTER:  # hundreds of terms over ten thousand runs take seconds
        return answer(await asyncio.to_thread(page, runs, wish, time.time()))
    return answer(page(runs, wish, time.time()))


@router.post("/runs", response_model=Submission, status_code=201)
async def submit_run(parts: EngineParts, request: SubmitRequest, connection: Request) -> Response:
    """Check a spec, its files and its data, then queue it. Once this answered, the run is never lost."""
    spec = parse_spec(request.spec)
    cwd = caller_directory(request.cwd)
    owner, uid = owner_of(connection)
    prepared = await parts.prepare(uid, spec, cwd)
    warnings = [str(warning) for warning in prepared.get("warnings", [])]
    submission = Submission(id="", summary=None, spec=spec.model_dump(mode="json"), prepared=prepared, warnings=warnings)
    if request.dry_run:
        parts.scheduler.check(spec)
        return answer(submission)
    summary = await parts.scheduler.submit(spec, owner=owner, uid=uid, cwd=str(cwd), prepared=prepared)
    submission["id"], submission["summary"] = summary["id"], summary
    return answer(submission, 201)


@router.get("/runs/{run_id}", response_model=RunDetail)
async def show_run(parts: EngineParts, run_id: str) -> Response:
    """One run with its spec, journal, checkpoints, capsule and metric names."""
    detail = await asyncio.to_thread(parts.scheduler.detail, run_id)
    person, owner = who_asks(), parts.scheduler.owner(run_id)
    if person.role != "admin" and (owner is None or owner[1] != person.uid):
        detail["spec"] = without_secrets(detail["spec"])
    return answer(detail)


@router.post("/runs/{run_id}/stop", response_model=RunSummary)
async def stop_run(parts: EngineParts, run_id: str, request: StopRequest) -> Response:
    """End a run: now (TERM, grace, KILL), or by itself after a checkpoint."""
    return answer(await parts.scheduler.stop(run_id, request.mode))


@router.post("/runs/{run_id}/retry", response_model=RunSummary)
async def retry_run(parts: EngineParts, run_id: str) -> Response:
    """Queue an ended run again."""
    return answer(await parts.scheduler.retry(run_id))


@router.post("/runs/{run_id}/checkpoint", response_model=RunSummary)
async def checkpoint_run(parts: EngineParts, run_id: str) -> Response:
    """Ask the running job to save a checkpoint now."""
    return answer(await parts.scheduler.control(run_id, "checkpoint"))


@router.post("/runs/{run_id}/priority", response_model=RunSummary)
async def set_priority(parts: EngineParts, run_id: str, request: PriorityRequest) -> Response:
    """Change a waiting run's priority."""
    return answer(await parts.scheduler.set_priority(run_id, request.priority))


@router.post("/runs/{run_id}/move", response_model=RunSummary)
async def move_run(parts: EngineParts, run_id: str, request: MoveRequest) -> Response:
    """Put a waiting run at a place in the queue."""
    return answer(await parts.scheduler.move(run_id, request.position))


@router.post("/runs/{run_id}/annotate", response_model=RunSummary)
async def annotate_run(parts: EngineParts, run_id: str, request: AnnotateRequest) -> Response:
    """Replace a run's tags or note, or pin it as a baseline; what is null stays as it was."""
    return answer(await parts.scheduler.annotate(run_id, Annotation(request.tags, request.note, request.baseline)))


@router.delete("/runs/{run_id}", response_model=Done)
async def remove_run(parts: EngineParts, run_id: str) -> Response:
    """Delete an ended run and its directory."""
    await parts.scheduler.remove(run_id)
    return answer(Done(done=f"{run_id} is removed"))


@router.get("/compare", response_model=Comparison)
async def compare_runs(parts: EngineParts, run: Annotated[list[str] | None, Query(max_length=1000)] = None) -> Response:
    """2 to 16 runs side by side: settings, data, environment, metrics; null where a run has no such thing."""
    return answer(await parts.scheduler.compare(run or []))


@router.get("/runs/{run_id}/series", response_model=SeriesAnswer)
async def run_series(
    parts: EngineParts,
    run_id: str,
    metric: Annotated[list[str], Query(min_length=1, max_length=_MOST_METRICS)],
    points: Annotated[int, Query(ge=1, le=100_000)] = 1000,
    step_first: Annotated[int | None, Query(ge=-_BIGGEST, le=_BIGGEST)] = None,
    step_last: Annotated[int | None, Query(ge=-_BIGGEST, le=_BIGGEST)] = None,
    until: Moment | None = None,
) -> Response:
    """Curves of the named metrics, each in at most `points` buckets; with `until` as they were at that moment."""
    parts.scheduler.summary(run_id)

    def read() -> list[Series]:
        return parts.store.read(lambda con: [queries.series(con, run_id, name, points, step_first, step_last, until) for name in metric])

    return answer(SeriesAnswer(series=await asyncio.to_thread(read)))


@router.get("/runs/{run_id}/events", response_model=RunEvents)
async def run_events(
    parts: EngineParts,
    run_id: str,
    after: Annotated[int, Query(ge=0, le=_BIGGEST)] = 0,
    type: Annotated[list[str] | None, Query(max_length=16)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """What the job told besides metrics, oldest first. Each carries `offset`; pass the last one as `after` to go on."""
    parts.scheduler.summary(run_id)
    kinds = type or [""]

    def read() -> list[dict[str, Any]]:
        return parts.store.read(lambda con: [event for kind in kinds for event in queries.run_events(con, run_id, after, kind, limit)])

    events = await asyncio.to_thread(read)
    events.sort(key=lambda event: int(event["offset"]))
    return answer(RunEvents(events=events[:limit]))


@router.get("/runs/{run_id}/stream", response_class=StreamingResponse)
async def follow_run(
    parts: EngineParts, run_id: str, request: Request, offset: Annotated[int, Query(ge=-1, le=_BIGGEST)] = 0
) -> StreamingResponse:
    """Server-sent events: the lines of events.jsonl after byte `offset` (-1: from now on); ids are the offsets to go on from."""
    run = _directory(parts, run_id)

    def final_state() -> str | None:
        try:
            state = parts.scheduler.summary(run_id)["state"]
        except NotFoundError:
            return "removed"
        return state if state in ENDED else None

    with contextlib.suppress(ValueError):
        offset = min(_BIGGEST, int(request.headers["last-event-id"])) if "last-event-id" in request.headers else offset
    stream: AsyncIterator[bytes] = run_stream(run, offset, final_state, parts.hanging_up)
    return event_stream(stream)


def _directory(parts: EngineParts, run_id: str) -> RunDir:
    return RunDir(parts.home.runs / parts.scheduler.summary(run_id)["id"])


def _choice(field: str, text: str, allowed: tuple[str, ...]) -> frozenset[str]:
    chosen = frozenset(part for part in text.split(",") if part)
    for name in sorted(chosen - set(allowed)):
        raise UsageError(f"unknown {field} {name!r}", f"use one of: {', '.join(allowed)}", [{"field": field, "message": "unknown"}])
    return chosen
