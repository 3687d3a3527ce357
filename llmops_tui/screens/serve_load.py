"""What a server told of itself over time, as curves of the Serve page's chart: requests in its hands, its cache. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from llmops_tui.screens.widgets.curve import TIME, Bucket, Curve

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Series


class Load(NamedTuple):
    """`of`: the curves' names, the run's metrics they are made of, and what those are multiplied by."""

    title: str
    of: tuple[tuple[str, str, float], ...]


LOADS: dict[str, Load] = {
    "load": Load("requests running and waiting", (("running", "serve/running", 1.0), ("waiting", "serve/waiting", 1.0))),
    "cache": Load(
        "KV cache used and prefix hits, %",
        (("KV cache", "serve/kv_cache_fraction", 100.0), ("prefix hits", "serve/prefix_hit_fraction", 100.0)),
    ),
}


@dataclass(frozen=True)
class Told:
    """The metrics of one server (a run) from `since` to `until`, Unix seconds."""

    run: str
    since: float
    until: float
    series: Sequence[Series]


def metric_names() -> list[str]:
    """All of them, as the run calls them."""
    return [metric for load in LOADS.values() for _, metric, _ in load.of]


def load_curves(told: Told | None, metric: str) -> list[Curve]:
    """The curves of `load` or `cache`; what the server does not tell has none."""
    if told is None:
        return []
    by_name = {series["metric"]: series["buckets"] for series in told.series}
    curves = [_curve(name, by_name.get(of, ()), factor, told) for name, of, factor in LOADS[metric].of]
    return [curve for curve in curves if curve.x]


def _curve(name: str, buckets: Sequence[Bucket], factor: float, told: Told) -> Curve:
    """Least, greatest and newest of each bucket, at the time of its last point."""
    placed = sorted(((float(bucket[7] or 0.0), bucket) for bucket in buckets), key=lambda pair: pair[0])
    within = [(t, bucket) for t, bucket in placed if told.since <= t <= told.until]
    return Curve.of(name, [(t, *(_times(bucket[at], factor) for at in (3, 4, 6))) for t, bucket in within], TIME)  # type: ignore[misc]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
