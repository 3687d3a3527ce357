"""`/v1/requests…` and an endpoint's latency: what was asked and answered, and how quickly."""

from __future__ import annotations

import re
import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from llmops_tui.data import request_queries
from llmops_tui.data.request_queries import RequestFilter, bounded
from llmops_tui.engine.answering import EngineParts, Moment, answer
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.specs.answers_requests import EndpointLive, LatencyHistory, RequestDetail, RequestPage

router = APIRouter(tags=["requests"])
_CLASS = re.compile(r"[1-5]xx")
_HOUR_SECONDS = 3600.0
Word = Annotated[str, Query(max_length=200)]


@router.get("/requests", response_model=RequestPage)
async def list_requests(
    parts: EngineParts,
    endpoint: Word = "",
    version: Word = "",
    status: Word = "",
    key: Word = "",
    slower_than_ms: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
    since: Moment | None = None,
    until: Moment | None = None,
    before: Moment | None = None,
    limit: Annotated[int, Query(ge=1, le=request_queries.MOST_ROWS)] = 100,
    count: bool = False,
) -> Response:
    """Recorded requests, newest first. `status` is a number, a class (5xx) or `error` (400 and above); `before` pages on."""
    low, high = status_range(status)
    chosen = RequestFilter(
        endpoint=parts.recorded.name_of(endpoint) if endpoint else "",
        version=version,
        status_low=low,
        status_high=high,
        keys=parts.recorded.keys_of(key) if key else (),
        slower_than_ms=slower_than_ms,
        since=since,
        until=until,
    )

    def read() -> RequestPage:
        return parts.store.read(lambda con: bounded(con, lambda con: request_queries.request_page(con, chosen, before, limit, count)))

    return answer(await parts.slowly(read))


@router.get("/requests/{identity}", response_model=RequestDetail)
async def show_request(parts: EngineParts, identity: str) -> Response:
    """One request with its text, where it was kept, and what people thought of it."""
    found = await parts.slowly(parts.store.read, lambda con: bounded(con, lambda con: request_queries.one_request(con, identity[:200])))
    if found is None:
        raise NotFoundError(
            f"no request {identity[:100]!r} is recorded", "see `llmops-tui requests list`; a new one is there within a second"
        )
    return answer(found)


@router.get("/endpoints/{name}/latency", response_model=LatencyHistory)
async def show_latency(
    parts: EngineParts,
    name: str,
    since: Moment | None = None,
    until: Moment | None = None,
    points: Annotated[int, Query(ge=1, le=2000)] = 120,
) -> Response:
    """The history of an endpoint's latency by version, with exact quantiles; the last hour where `since` is left out."""
    last = time.time() if until is None else until
    first = last - _HOUR_SECONDS if since is None else since
    if first >= last:
        raise UsageError("since: must be before until", "leave one of them out", [{"field": "since", "message": "must be before until"}])
    endpoint = parts.recorded.name_of(name)
    seconds = request_queries.stretch_seconds(first, last, points)
    first = first // seconds * seconds  # the first stretch is whole too

    def read() -> LatencyHistory | None:
        def ask(con: request_queries.Connection) -> LatencyHistory | None:
            versions, mirrored = request_queries.latency_history(con, endpoint, first, last, seconds)
            known = versions or mirrored or parts.endpoints.keeping.book.taken(endpoint)
            if not known and not request_queries.has_requests(con, endpoint):
                return None
            return LatencyHistory(endpoint=endpoint, since=first, until=last, seconds=seconds, versions=versions, mirrored=mirrored)

        return parts.store.read(lambda con: bounded(con, ask))

    found = await parts.slowly(read)
    if found is None:
        raise NotFoundError(f"no endpoint {name[:100]!r}", "see `llmops-tui endpoints list`")
    return answer(found)


@router.get("/endpoints/{name}/live", response_model=EndpointLive)
async def show_live(parts: EngineParts, name: str) -> Response:
    """The last minutes of an endpoint: latency windows, load of its servers, energy and money a thousand tokens. From memory."""
    return answer(parts.recorded.live(name))


def status_range(status: str) -> tuple[int | None, int | None]:
    """The least and greatest status that words choose. Raises UsageError."""
    word = status.strip().lower()
    if not word:
        return None, None
    if word == "error":
        return 400, None
    if _CLASS.fullmatch(word):
        return int(word[0]) * 100, int(word[0]) * 100 + 99
    if word.isascii() and word.isdigit() and 100 <= int(word) <= 599:
        return int(word), int(word)
    raise UsageError(
        f"status: {status!r} is neither a number (429), a class (5xx) nor error", "see `llmops-tui requests list --help`",
        [{"field": "status", "message": "must be a number (429), a class (5xx) or error"}],
    )  # fmt: skip
