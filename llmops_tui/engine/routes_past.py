"""`/v1/at`, `/v1/span` and a log's length at a moment: what the engine knows of the past."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from llmops_tui.engine.answering import EngineParts, Moment, answer
from llmops_tui.specs.answers import LogSize, Span, Status

router = APIRouter(tags=["past"])


@router.get("/at", response_model=Status)
async def show_status_at(parts: EngineParts, t: Moment) -> Response:
    """The status as it was at moment `t` (Unix seconds); readings that were not sampled then are null."""
    return answer(await parts.at(t))


@router.get("/span", response_model=Span)
async def show_span(parts: EngineParts) -> Response:
    """From when until when `/v1/at` can tell."""
    return answer(await parts.past.span())


@router.get("/runs/{run_id}/log/size", response_model=LogSize)
async def run_log_size(parts: EngineParts, run_id: str, t: Moment) -> Response:
    """How long the output was at moment `t` (Unix seconds), as the last look before it saw; null where nobody had looked."""
    return answer(LogSize(bytes=await parts.past.log_bytes(parts.scheduler.one(run_id), t)))
