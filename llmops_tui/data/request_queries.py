"""Questions about recorded requests, each a function of a connection with a typed answer. Pure reads.

They look through spans of time, not through an index: DuckDB passes over the row groups whose least and greatest `t` lie elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import duckdb

from llmops_tui.data.request_lines import REQUEST
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers_requests import Feedback, LatencyPoint, RequestDetail, RequestPage, RequestRow

MOST_ROWS = 1000
# The stretches of a chart: whole ones in every unit of time, so that the same stretch has the same bounds at every look.
STRETCHES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_COLUMNS = ", ".join(REQUEST)
_QUANTILES = ("ttft", "itl", "total", "queue")
_QUERY_SECONDS = 25.0  # less than a client waits
_MOST_TIES = 10_000
T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class RequestFilter:
    """Which requests; what is empty or None chooses nothing. `status_low` to `status_high` are included, `keys` are any of these."""

    endpoint: str = ""
    version: str = ""
    status_low: int | None = None
    status_high: int | None = None
    keys: tuple[str, ...] = ()
    slower_than_ms: float | None = None
    since: float | None = None
    until: float | None = None


def bounded(con: duckdb.DuckDBPyConnection, ask: Callable[[duckdb.DuckDBPyConnection], T], seconds: float = _QUERY_SECONDS) -> T:
    """The answer as of one moment, or LlmopsError once it takes too long: nobody's question keeps a thread for ever."""
    timer = threading.Timer(seconds, con.interrupt)
    timer.daemon = True
    con.execute("BEGIN TRANSACTION READ ONLY")  # a page is found in several steps, and rows come in meanwhile
    timer.start()
    try:
        return ask(con)
    except duckdb.InterruptException:
        raise LlmopsError(f"the answer took longer than {seconds:g} s", "narrow it: --since, --until, an endpoint") from None
    except duckdb.OutOfMemoryException:
        raise LlmopsError("the answer needs too much memory", "narrow it: --since, --until; or raise engine.database_memory") from None
    finally:
        timer.cancel()
        timer.join()
        with contextlib.suppress(duckdb.Error):  # interrupted a moment too late; closing the cursor rolls back as well
            con.execute("ROLLBACK")


def request_page(
    con: duckdb.DuckDBPyConnection, chosen: RequestFilter, before: float | None = None, limit: int = 100, count: bool = False
) -> RequestPage:
    """The newest requests that match, begun before `before`. A page ends between two moments, so that the next one misses none."""
    conditions, values = _conditions(chosen)
    total = None
    if count:
        counted = con.execute(f"SELECT count(*) FROM requests WHERE {' AND '.join(conditions)}", values).fetchone()
        total = int(counted[0]) if counted else 0
    if before is not None:
        conditions, values = [*conditions, "t < ?"], [*values, before]
    where = " AND ".join(conditions)
    # First the moments alone, then the rows from there on: of a million requests 7 ms, and 30 with all columns at once.
    moments = [
        row[0] for row in con.execute(f"SELECT t FROM requests WHERE {where} ORDER BY t DESC LIMIT ?", [*values, limit + 1]).fetchall()
    ]
    if not moments:
        return RequestPage(rows=[], total=total, next=None)
    whole = len(moments) <= limit
    # A page of a single moment is as long as that moment has requests.
    last = moments[-1] if whole else next((t for t in reversed(moments[:limit]) if t > moments[limit]), moments[limit])
    query = f"SELECT {_COLUMNS} FROM requests WHERE {where} AND t >= ? ORDER BY t DESC, id DESC LIMIT ?"
    found = con.execute(query, [*values, last, _MOST_TIES]).fetchall()
    following = None if whole else last
    return RequestPage(rows=_rows(con, found), total=total, next=following)


def one_request(con: duckdb.DuckDBPyConnection, identity: str) -> RequestDetail | None:
    """One request with its text and what people thought of it; None where there is none of that id."""
    found = con.execute(f"SELECT {_COLUMNS} FROM requests WHERE id = ?", [identity]).fetchall()
    if not found:
        return None
    row = _rows(con, found[:1])[0]
    text = con.execute(
        "SELECT form, prompt, response, redacted FROM request_texts WHERE t = ? AND id = ?", [row["t"], identity]
    ).fetchone() or ("text", "", "", 0)
    said = con.execute("SELECT t, id, key, rating, comment, correction FROM feedback WHERE id = ? ORDER BY t", [identity]).fetchall()
    form, prompt, response, redacted = text
    messages = json.loads(prompt) if form == "messages" and prompt else None
    return RequestDetail(
        row=row,
        prompt=_readable(messages) if isinstance(messages, list) else prompt,
        messages=messages if isinstance(messages, list) else None,
        response=response,
        redacted=redacted,
        feedback=[
            Feedback(t=t, id=about, key=key, rating=rating, comment=comment, correction=correction)
            for t, about, key, rating, comment, correction in said
        ],
    )


def who_answered(con: duckdb.DuckDBPyConnection, identities: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Endpoint and version by request; a request that is not known is left out."""
    rows = con.execute("SELECT id, endpoint, version FROM requests WHERE list_contains(?, id)", [list(identities)]).fetchall()
    return {identity: (endpoint, version) for identity, endpoint, version in rows}


def has_requests(con: duckdb.DuckDBPyConnection, endpoint: str) -> bool:
    """Whether anything is recorded of an endpoint."""
    return con.execute("SELECT 1 FROM requests WHERE endpoint = ? LIMIT 1", [endpoint]).fetchone() is not None


def stretch_seconds(since: float, until: float, points: int) -> float:
    """The shortest of the usual stretches of which at most `points` cover the span; whole days beyond."""
    least = max(0.0, until - since) / max(1, points)
    day = STRETCHES[-1]
    return float(next((seconds for seconds in STRETCHES if seconds >= least), -(-least // day) * day))


def latency_history(
    con: duckdb.DuckDBPyConnection, endpoint: str, since: float, until: float, seconds: float
) -> tuple[dict[str, list[LatencyPoint]], dict[str, list[LatencyPoint]]]:
    """By version, oldest first, of requests and of shadow traffic; each stretch's quantiles are exact over its requests."""
    quantiles = ", ".join(f"quantile_cont({name}_ms, [0.5, 0.95, 0.99])" for name in _QUANTILES)
    rows = con.execute(
        "SELECT mirror, version, floor(t / $seconds) * $seconds AS begun, count(*), "
        f"count(*) FILTER (status >= 500), count(*) FILTER (good), coalesce(sum(completion_tokens), 0), "
        f"coalesce(sum(prompt_tokens), 0), {quantiles} "
        "FROM requests WHERE endpoint = $endpoint AND t >= $since AND t < $until GROUP BY ALL ORDER BY mirror, version, begun",
        {"endpoint": endpoint, "since": since, "until": until, "seconds": seconds},
    ).fetchall()
    history: tuple[dict[str, list[LatencyPoint]], dict[str, list[LatencyPoint]]] = ({}, {})
    for mirror, version, t, requests, errors, good, completion_tokens, prompt_tokens, *lists in rows:
        (ttft, itl, total, queue) = [values or (None, None, None) for values in lists]
        history[bool(mirror)].setdefault(version, []).append(
            LatencyPoint(
                t=t,
                requests=requests,
                errors=errors,
                good=good,
                completion_tokens=int(completion_tokens),
                prompt_tokens=int(prompt_tokens),
                ttft_p50=ttft[0], ttft_p95=ttft[1], ttft_p99=ttft[2],
                itl_p50=itl[0], itl_p95=itl[1], itl_p99=itl[2],
                total_p50=total[0], total_p95=total[1], total_p99=total[2],
                queue_p50=queue[0], queue_p95=queue[1], queue_p99=queue[2],
            )
        )  # fmt: skip
    return history


def _conditions(chosen: RequestFilter) -> tuple[list[str], list[object]]:
    wanted: list[tuple[str, object]] = [
        ("endpoint = ?", chosen.endpoint or None),
        ("version = ?", chosen.version or None),
        ("status >= ?", chosen.status_low),
        ("status <= ?", chosen.status_high),
        ("list_contains(?, key)", list(chosen.keys) or None),
        ("total_ms > ?", chosen.slower_than_ms),
        ("t >= ?", chosen.since),
        ("t <= ?", chosen.until),
    ]
    kept = [(condition, value) for condition, value in wanted if value is not None]
    return [condition for condition, _ in kept] or ["true"], [value for _, value in kept]


def _rows(con: duckdb.DuckDBPyConnection, found: Sequence[tuple[object, ...]]) -> list[RequestRow]:
    if not found:
        return []
    named = [dict(zip(REQUEST, row, strict=True)) for row in found]
    identities = [row["id"] for row in named]
    first, last = min(row["t"] for row in named), max(row["t"] for row in named)  # type: ignore[type-var]
    # A text has the time of its request: this looks at the few row groups of these moments.
    kept = con.execute(
        "SELECT id FROM request_texts WHERE t BETWEEN ? AND ? AND list_contains(?, id)", [first, last, identities]
    ).fetchall()
    said = con.execute("SELECT id, arg_max(rating, t) FROM feedback WHERE rating <> '' AND list_contains(?, id) GROUP BY id", [identities])
    texts, ratings = {row[0] for row in kept}, dict(said.fetchall())
    return [RequestRow(**row, has_text=row["id"] in texts, rating=ratings.get(row["id"], "")) for row in named]  # type: ignore[typeddict-item]


def _readable(messages: list[object]) -> str:
    """A conversation as a person reads it: who, then what."""
    parts = []
    for message in messages:
        if isinstance(message, dict):
            content = message.get("content")
            said = content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
            calls = message.get("tool_calls")
            parts.append(f"{message.get('role', '')}: {said}{json.dumps(calls, ensure_ascii=False) if calls else ''}")
    return "\n\n".join(parts)
