"""Moving points to where they are cheap to keep and quick to read: sorted by run, metric and step, 8 bytes a point."""

from __future__ import annotations

import duckdb

# A slice is one transaction of the writer: about 0.5 s of CPU, in which nothing else is committed.
SLICE_POINTS = 1_000_000


def live_points(con: duckdb.DuckDBPyConnection) -> dict[int, int]:
    """How many points of each run key wait to be moved."""
    return dict(con.execute("SELECT run_key, count(*) FROM points_live GROUP BY run_key").fetchall())


def settle(con: duckdb.DuckDBPyConnection, run_key: int) -> int:
    """Move the run's oldest SLICE_POINTS points; returns how many. Call it in a write transaction until it returns 0.

    Readers see each point once throughout: the move is one transaction.
    """
    # Rows of a run stand in the table in the order they came, so its oldest ones end at one row number.
    last = con.execute(
        "SELECT max(rowid) FROM (SELECT rowid FROM points_live WHERE run_key = ? ORDER BY rowid LIMIT ?)", [run_key, SLICE_POINTS]
    ).fetchone()
    if last is None or last[0] is None:
        return 0
    chosen = [run_key, last[0]]
    con.execute(
        "INSERT INTO points_settled SELECT * FROM points_live WHERE run_key = ? AND rowid <= ? ORDER BY metric_key, step, attempt", chosen
    )
    moved = con.execute("DELETE FROM points_live WHERE run_key = ? AND rowid <= ?", chosen).fetchone()
    return int(moved[0]) if moved else 0
