"""Questions to the database, each a function of a connection with a typed answer. Pure reads unless the name says otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import duckdb

from llmops_tui.data.event_store import decode_latest, ensure_run_key
from llmops_tui.data.masking import without_secrets
from llmops_tui.specs.answers import EngineEvent, Progress, RunSummary, Series


def run_key(con: duckdb.DuckDBPyConnection, run_id: str) -> int | None:
    row = con.execute("SELECT run_key FROM runs WHERE id = ?", [run_id]).fetchone()
    return int(row[0]) if row else None


def metric_names(con: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """Every metric the run has logged, sorted; [] for an unknown run. Reads one row, not the points."""
    return sorted(latest_values(con, run_id))


def latest_values(con: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, float]:
    """The newest value of each metric as of the last commit; NaN and infinities as they are."""
    row = con.execute("SELECT latest FROM ingest_offsets JOIN runs USING (run_key) WHERE id = ?", [run_id]).fetchone()
    return decode_latest(row[0]) if row else {}


def latest_progress(con: duckdb.DuckDBPyConnection, run_id: str) -> Progress | None:
    """The newest phase or heartbeat as of the last commit."""
    row = con.execute("SELECT progress FROM ingest_offsets JOIN runs USING (run_key) WHERE id = ?", [run_id]).fetchone()
    return json.loads(row[0]) if row and row[0] else None


def series(
    con: duckdb.DuckDBPyConnection,
    run_id: str,
    metric: str,
    points: int = 1000,
    step_first: int | None = None,
    step_last: int | None = None,
    until: float | None = None,
) -> Series:
    """The metric's curve in at most `points` buckets of equal width in steps; single points where they are few enough.

    With `until` (Unix seconds) the curve is the one of that moment: points told later do not exist.

    Where several attempts logged a step (a resumed run does some again) the newest attempt's value is taken. Minimum, maximum
    and mean are over finite values, None where a bucket has none; `last` is None when the last value is not finite.
    An unknown run or metric has no buckets.
    """
    chosen: dict[str, str | int | None] = {"run": run_id, "metric": metric, "first": step_first, "last": step_last}
    source = (
        "FROM points WHERE run_key = $run AND metric_key = $metric AND step >= coalesce($first, step) AND step <= coalesce($last, step)"
    )
    if until is not None:
        source += " AND t_ms <= $until"
        chosen["until"] = int(until * 1000)
    keys = con.execute("SELECT run_key, metric_key FROM runs, metrics WHERE runs.id = ? AND metrics.name = ?", [run_id, metric]).fetchone()
    if keys is None:
        return Series(metric=metric, total_points=0, buckets=[])
    chosen.update(run=keys[0], metric=keys[1])
    attempts = con.execute(f"SELECT min(step), max(step), count(*) {source} GROUP BY attempt", chosen).fetchall()
    if not attempts:
        return Series(metric=metric, total_points=0, buckets=[])
    columns = "step, t_ms, value"
    if len(attempts) > 1:
        source = f"FROM (SELECT {columns} {source} QUALIFY attempt = max(attempt) OVER (PARTITION BY step))"
    if sum(row[2] for row in attempts) <= points:
        rows = con.execute(f"SELECT {columns} {source} ORDER BY step, t_ms", chosen).fetchall()
        buckets = [[step, step, 1, *[finite(value)] * 4, t_ms / 1000] for step, t_ms, value in rows]
        return Series(metric=metric, total_points=len(rows), buckets=buckets)
    low, high = min(row[0] for row in attempts), max(row[1] for row in attempts)
    width = -(-(high - low + 1) // max(1, points))
    rows = con.execute(
        "SELECT min(step), max(step), count(*), min(number), max(number), avg(number), arg_max(value, step), max(t_ms) "
        f"FROM (SELECT {columns}, CASE WHEN isfinite(value) THEN value END AS number {source}) "
        "GROUP BY (step - $low) // $width ORDER BY 1",
        {**chosen, "low": low, "width": width},
    ).fetchall()
    buckets = [
        [first, last, count, finite(least), finite(most), finite(mean), finite(newest), t_ms / 1000]
        for first, last, count, least, most, mean, newest, t_ms in rows
    ]
    return Series(metric=metric, total_points=sum(row[2] for row in rows), buckets=buckets)


def run_events(
    con: duckdb.DuckDBPyConnection, run_id: str, after: int = 0, event_type: str = "", limit: int = 1000
) -> list[dict[str, Any]]:
    """The run's events that are no metrics and no heartbeats, in the order they were written.

    Each is the job's record plus `offset`, the byte after its line: pass the last one as `after` to go on.
    """
    rows = con.execute(
        "SELECT line_end, e.attempt, t, type, body FROM run_events e JOIN runs r USING (run_key) "
        "WHERE r.id = $id AND line_end > $after AND ($type = '' OR type = $type) ORDER BY line_end LIMIT $limit",
        {"id": run_id, "after": after, "type": event_type, "limit": limit},
    ).fetchall()
    return [{**json.loads(body), "t": t, "attempt": attempt, "type": kind, "offset": line_end} for line_end, attempt, t, kind, body in rows]


def engine_events(
    con: duckdb.DuckDBPyConnection,
    after: int,
    limit: int,
    *,
    before: int | None = None,
    since: float | None = None,
    until: float | None = None,
    types: Collection[str] = (),
    run: str = "",
    newest: bool = False,
) -> list[EngineEvent]:
    """The engine's own events with a number above `after` (and below `before`), oldest first; `newest`: the last `limit` of them.

    `since` and `until` bound their time (Unix seconds, both included), `types` and `run` choose among them; a type with a
    leading - is left out.
    """
    left_out = [name.removeprefix("-") for name in types if name.startswith("-")]
    types = [name for name in types if not name.startswith("-")]
    wanted: list[tuple[str, object]] = [("seq > ?", after)]
    wanted += [("seq < ?", before)] if before is not None else []
    wanted += [("t >= ?", since)] if since is not None else []
    wanted += [("t <= ?", until)] if until is not None else []
    wanted += [("run = ?", run)] if run else []
    wanted += [("list_contains(?, type)", types)] if types else []
    wanted += [("NOT list_contains(?, type)", left_out)] if left_out else []
    rows = con.execute(
        f"SELECT seq, t, type, run, data FROM engine_events WHERE {' AND '.join(condition for condition, _ in wanted)} "
        f"ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?",
        [*(value for _, value in wanted), limit],
    ).fetchall()
    events = [EngineEvent(seq=seq, t=t, type=kind, run=run, data=json.loads(data)) for seq, t, kind, run, data in rows]
    return events[::-1] if newest else events


def last_engine_event(con: duckdb.DuckDBPyConnection) -> int:
    """The highest number given so far, 0 for none."""
    # All rows, not one: an appender is refused on a connection whose last result was not read to its end.
    rows = con.execute("SELECT coalesce(max(seq), 0) FROM engine_events").fetchall()
    return int(rows[0][0])


def append_engine_events(con: duckdb.DuckDBPyConnection, events: Iterable[EngineEvent]) -> None:
    """Store events that have their numbers. Call it in a write transaction."""
    appender = con.appender("engine_events")
    appender.append_rows((event["seq"], event["t"], event["type"], event["run"], json.dumps(event["data"])) for event in events)
    appender.flush()


def prune_engine_events(con: duckdb.DuckDBPyConnection, keep: int = 100_000, keep_progress: int = 20_000) -> None:
    """Forget all but the newest `keep` events, and steps of progress among them sooner. Call it in a write transaction.

    A running job tells its progress every second: it must not crowd out what happened to runs and GPUs in the last weeks.
    """
    con.execute(
        "DELETE FROM engine_events WHERE type = 'run.progress' AND seq <= (SELECT max(seq) FROM engine_events) - ?", [keep_progress]
    )
    con.execute(
        "DELETE FROM engine_events WHERE seq < (SELECT min(seq) FROM (SELECT seq FROM engine_events ORDER BY seq DESC LIMIT ?))", [keep]
    )


def upsert_run(con: duckdb.DuckDBPyConnection, summary: RunSummary, spec: Mapping[str, Any]) -> None:
    """Let SQL users see the run as it stands now, but for its secrets. Call it in a write transaction."""
    ensure_run_key(con, summary["id"])
    con.execute(
        "UPDATE runs SET kind = ?, name = ?, state = ?, reason = ?, attempt = ?, priority = ?, owner = ?, tags = ?, "
        "note = ?, baseline = ?, submitted_at = ?, started_at = ?, ended_at = ?, exit_code = ?, gpus = ?, "
        "gpu_seconds = ?, energy_joules = ?, spec = ? WHERE id = ?",
        [
            summary["kind"], summary["name"], summary["state"], summary["reason"], summary["attempt"], summary["priority"],
            summary["owner"], summary["tags"], summary["note"], summary["baseline"], summary["submitted_at"],
            summary["started_at"], summary["ended_at"],
            summary["exit_code"], summary["gpus"], summary["gpu_seconds"], summary["energy_joules"],
            json.dumps(without_secrets(spec)), summary["id"],
        ],
    )  # fmt: skip


def note_usage(con: duckdb.DuckDBPyConnection, used: Iterable[tuple[str, float, float | None]]) -> None:
    """Let SQL users see what running runs have used so far: (id, GPU seconds, joules). Call it in a write transaction.

    These columns alone: a row is written anew, text and all, by `upsert_run`, which is not for every minute of a long run.
    """
    for run_id, gpu_seconds, joules in used:
        con.execute("UPDATE runs SET gpu_seconds = ?, energy_joules = ? WHERE id = ?", [gpu_seconds, joules, run_id])


def forget_run(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Delete all that is known of a removed run. Call it in a write transaction."""
    key = run_key(con, run_id)
    if key is None:
        return
    for table in ("points_live", "points_settled", "run_events", "ingest_offsets", "runs"):
        con.execute(f"DELETE FROM {table} WHERE run_key = ?", [key])


def finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinities: they travel as None."""
    return value if value is not None and math.isfinite(value) else None
