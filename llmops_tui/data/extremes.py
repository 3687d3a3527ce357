"""The least and the greatest value of each metric of a run, as its curve shows them."""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from llmops_tui.data.queries import run_key


class Extremes(NamedTuple):
    """Of the finite values; None where there is none."""

    minimum: float | None
    maximum: float | None


_FINITE = "min(value) FILTER (isfinite(value)), max(value) FILTER (isfinite(value))"


def extremes(con: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, Extremes]:
    """By metric name; {} for an unknown run. A step that was done again counts as its newest attempt told it."""
    key = run_key(con, run_id)
    if key is None:
        return {}
    names = {int(row[0]): str(row[1]) for row in con.execute("SELECT metric_key, name FROM metrics").fetchall()}
    rows = con.execute(
        f"SELECT metric_key, {_FINITE}, min(attempt) < max(attempt) FROM points WHERE run_key = ? GROUP BY metric_key", [key]
    ).fetchall()
    found: dict[str, Extremes] = {}
    for metric, least, most, done_again in rows:
        if done_again:
            least, most = _of_newest_attempts(con, key, metric)
        found[names[metric]] = Extremes(least, most)
    return found


def _of_newest_attempts(con: duckdb.DuckDBPyConnection, run: int, metric: int) -> tuple[float | None, float | None]:
    """A window over one metric at a time: over all of them it would need the memory of the whole run."""
    rows = con.execute(
        f"SELECT {_FINITE} FROM (SELECT value FROM points WHERE run_key = ? AND metric_key = ? "
        "QUALIFY attempt = max(attempt) OVER (PARTITION BY step))",
        [run, metric],
    ).fetchall()
    least, most = rows[0]
    return least, most
