"""What of a run is exported: its facts, its settings without secrets, and its points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from llmops_tui.specs.answers import RunSummary

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Content:
    """`config`: dotted keys, secrets of the environment masked."""

    run: RunSummary
    config: dict[str, object]


@dataclass(frozen=True)
class Curve:
    """One metric's points in the order of their steps. The arrays run in parallel; `t_ms` in milliseconds since 1970."""

    metric: str
    step: NDArray[numpy.int64]
    t_ms: NDArray[numpy.int64]
    value: NDArray[numpy.float64]
    attempt: NDArray[numpy.int16]


def curves(con: duckdb.DuckDBPyConnection, run_id: str, *, every_attempt: bool = False) -> Iterator[Curve]:
    """Metric by metric. Where an attempt went over steps of an earlier one again, the later one's points count, unless all are wanted."""
    chosen = "" if every_attempt else "QUALIFY points.attempt = max(points.attempt) OVER (PARTITION BY step)"
    names = con.execute(
        "SELECT DISTINCT metric_key, metrics.name FROM points JOIN runs USING (run_key) JOIN metrics USING (metric_key) "
        "WHERE runs.id = ? ORDER BY metrics.name",
        [run_id],
    ).fetchall()
    for key, name in names:
        found = con.execute(
            "SELECT step, t_ms, value, points.attempt AS attempt FROM points JOIN runs USING (run_key) WHERE runs.id = ? "
            f"AND metric_key = ? {chosen} ORDER BY step, points.attempt, t_ms",
            [run_id, key],
        ).fetchnumpy()
        yield Curve(str(name), found["step"], found["t_ms"], found["value"], found["attempt"])


def number_text(value: float) -> str:
    """As every one of these tools reads it back: `nan`, `inf`, `-inf`, else the shortest text of the same number."""
    if math.isfinite(value):
        return repr(value)
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
