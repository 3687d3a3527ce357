"""`/v1/runs/{id}/log…`: a run's output by byte ranges, searched and filtered where it lies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import Response

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.answering import EngineParts, answer
from llmops_tui.engine.log_reading import read_log
from llmops_tui.engine.log_scan import Bounds, Needle
from llmops_tui.engine.log_search import filter_log, search_log
from llmops_tui.engine.parts import Parts
from llmops_tui.specs.answers import LogFilter, LogSearch
from llmops_tui.specs.log_text import LONGEST_PATTERN, PIECE_BYTES

_BIGGEST = 2**63 - 1
_MOST_HITS = 10_000
_MOST_LINES = 2_000
_LONGEST_LINE_BYTES = 1 << 16
router = APIRouter(tags=["runs"])
# Searches take their time: two at once leave the threads of quick requests and the processors alone.
_searches = ThreadPoolExecutor(2, "log-search")
T = TypeVar("T")
P = ParamSpec("P")
Pattern = Annotated[str, Query(min_length=1, max_length=LONGEST_PATTERN)]
Offset = Annotated[int, Query(ge=0, le=_BIGGEST)]
Until = Annotated[int | None, Query(ge=0, le=_BIGGEST)]
Direction = Literal["forward", "backward"]


@router.get("/runs/{run_id}/log", response_class=Response)
async def run_log(
    parts: EngineParts,
    run_id: str,
    offset: Annotated[int, Query(ge=-_BIGGEST, le=_BIGGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=8 << 20)] = 65536,
) -> Response:
    """Raw bytes of the job's output; a negative offset counts from the end. Where they lie is in the X- headers."""
    part = await asyncio.to_thread(read_log, _log(parts, run_id), offset, limit)
    headers = {
        "x-offset": str(part.offset),
        "x-next-offset": str(part.next_offset),
        "x-size": str(part.size),
        "x-first-kept": str(part.first_kept),
    }
    return Response(part.data, media_type="application/octet-stream", headers=headers)


@router.get("/runs/{run_id}/log/search", response_model=LogSearch)
async def search_run_log(
    parts: EngineParts,
    run_id: str,
    pattern: Pattern,
    regex: bool = False,
    ignore_case: bool = False,
    offset: Offset = 0,
    until: Until = None,
    direction: Direction = "forward",
    limit: Annotated[int, Query(ge=0, le=_MOST_HITS)] = 100,
) -> Response:
    """Hits that begin in [offset, until), backward from the last one; a limit of 0 only counts. Never longer than about half a second.

    A hit is what one line showed, without escape sequences. A regular expression (Python's) that goes back and forth without end is
    stopped and refused.
    """
    bounds = Bounds(offset, -1 if until is None else until, direction == "backward", limit)
    return answer(await _search(search_log, _log(parts, run_id), Needle(pattern, regex, ignore_case), bounds))


@router.get("/runs/{run_id}/log/filter", response_model=LogFilter)
async def filter_run_log(
    parts: EngineParts,
    run_id: str,
    pattern: Pattern,
    regex: bool = False,
    ignore_case: bool = False,
    offset: Offset = 0,
    until: Until = None,
    direction: Direction = "forward",
    limit: Annotated[int, Query(ge=1, le=_MOST_LINES)] = 200,
    context: Annotated[int, Query(ge=0, le=50)] = 0,
    line_bytes: Annotated[int, Query(ge=64, le=_LONGEST_LINE_BYTES)] = PIECE_BYTES,
) -> Response:
    """At most `limit` lines with hits in [offset, until), and `context` lines around each; backward the last ones, in the file's order."""
    bounds = Bounds(offset, -1 if until is None else until, direction == "backward", limit, line_bytes)
    return answer(await _search(filter_log, _log(parts, run_id), Needle(pattern, regex, ignore_case), bounds, context))


async def _search(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(_searches, lambda: work(*args, **options))


def _log(parts: Parts, run_id: str) -> Path:
    return RunDir(parts.home.runs / parts.scheduler.summary(run_id)["id"]).log
