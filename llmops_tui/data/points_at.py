"""The newest value of each metric at a past moment, found where it lies: near that moment, and only for the runs asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import duckdb

from llmops_tui.data.event_store import decode_latest

# Points settle sorted by metric and step, so a narrow stretch of time is a few blocks a metric. What is logged rarely (an
# evaluation an hour) is looked for further back, by then among few metrics.
_WINDOWS_MS = (60_000, 3_600_000)


def latest_at(con: duckdb.DuckDBPyConnection, run_ids: Iterable[str], t: float) -> dict[str, dict[str, float]]:
    """By run id, what each metric's newest point told until `t` (Unix seconds) holds; NaN and infinities as they are.

    A run without a point until then has no entry.
    """
    wanted = list(run_ids)
    rows = con.execute(
        "SELECT id, run_key, latest FROM runs JOIN ingest_offsets USING (run_key) WHERE list_contains(?, id)", [wanted]
    ).fetchall()
    ids = {int(key): str(run_id) for run_id, key, _ in rows}
    missing = {int(key): set(decode_latest(latest)) for _, key, latest in rows}
    found: dict[str, dict[str, float]] = {}
    until_ms = int(t * 1000)
    for window in (*_WINDOWS_MS, None):
        # Runs that miss the same names are asked together: one that misses a rare metric is not searched for the others again.
        alike: dict[frozenset[str], list[int]] = {}
        for key, names in missing.items():
            if names:
                alike.setdefault(frozenset(names), []).append(key)
        for wanted_names, runs in alike.items():
            for key, name, value in _newest(con, runs, wanted_names, until_ms, 0 if window is None else until_ms - window):
                missing[key].discard(name)
                found.setdefault(ids[key], {})[name] = value
    return found


def _newest(
    con: duckdb.DuckDBPyConnection, runs: list[int], names: Collection[str], until_ms: int, from_ms: int
) -> list[tuple[int, str, float]]:
    # Numbers written into the statement are compared with each block's bounds before it is read; parameters in a list are not.
    metrics = con.execute("SELECT metric_key, name FROM metrics WHERE list_contains(?, name)", [list(names)]).fetchall()
    if not metrics:
        return []
    by_key = {int(key): str(name) for key, name in metrics}
    rows = con.execute(
        # Of points told in one millisecond the highest step is the newest.
        "SELECT run_key, metric_key, arg_max(value, t_ms::HUGEINT * 4611686018427387904 + step) FROM points "
        f"WHERE run_key IN ({_list(runs)}) AND metric_key IN ({_list(by_key)}) AND t_ms <= {until_ms} AND t_ms >= {from_ms} "
        "GROUP BY run_key, metric_key"
    ).fetchall()
    return [(int(run), by_key[int(metric)], float(value)) for run, metric, value in rows]


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
