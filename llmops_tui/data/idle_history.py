"""Since when a GPU has been idle, from the stored samples: what an engine that was started again did not see itself."""

from __future__ import annotations

import duckdb

_LOOK_BACK_MS = 86_400_000
_LONGEST_GAP_MS = 60_000
# So much of the time must have been looked at; a box whose engine was away does not know.
_SEEN_PART = 0.9


def idle_since(con: duckdb.DuckDBPyConnection, index: int, below: float, sample_seconds: float, now: float) -> float | None:
    """Unix seconds of the last sample with a use of `below` or more; None where samples do not reach to `now` or have holes.

    A GPU without such a sample has been idle for as long as it was looked at, at most a day. One scan of a day's samples.
    """
    name, end_ms = f"gpu/{index}/utilisation", int(now * 1000)
    source = "FROM samples JOIN sample_series USING (series_key) WHERE name = ? AND t_ms BETWEEN ? AND ?"
    found = con.execute(
        f"SELECT coalesce(max(t_ms) FILTER (value >= ?), min(t_ms)), max(t_ms) {source}", [below, name, end_ms - _LOOK_BACK_MS, end_ms]
    ).fetchall()
    since_ms, newest_ms = found[0]
    if since_ms is None or end_ms - newest_ms > _LONGEST_GAP_MS:
        return None
    looks = con.execute(f"SELECT count(*) {source}", [name, since_ms, end_ms]).fetchall()[0][0]
    span_ms = newest_ms - since_ms
    return since_ms / 1000 if looks * sample_seconds * 1000 >= _SEEN_PART * span_ms else None
