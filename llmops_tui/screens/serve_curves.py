"""The history of an endpoint's latency and throughput as curves of its chart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from llmops_tui.screens.weight_split import split_words
from llmops_tui.screens.widgets.curve import TIME, Curve
from llmops_tui.screens.widgets.marks import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmops_tui.specs.answers_requests import LatencyHistory, LatencyPoint
    from llmops_tui.specs.answers_serving import EndpointChange

SPANS = (
    (3600.0, "the last hour"),
    (6 * 3600.0, "the last six hours"),
    (86_400.0, "the last day"),
    (7 * 86_400.0, "the last week"),
    (600.0, "the last ten minutes"),
)
_RANKS = ("p50", "p95", "p99")
_PRESSING = ("route", "swap", "rollback")


class Metric(NamedTuple):
    """What the chart can show: `of` gives the curves' names and how to read each from a point of so many seconds."""

    title: str
    of: tuple[tuple[str, Callable[[LatencyPoint, float], float | None]], ...]
    slo: str = ""


def _quantiles(name: str) -> tuple[tuple[str, Callable[[LatencyPoint, float], float | None]], ...]:
    def reader(rank: str) -> Callable[[LatencyPoint, float], float | None]:
        return lambda point, seconds: point[f"{name}_{rank}"]  # type: ignore[literal-required]

    return tuple((rank, reader(rank)) for rank in _RANKS)


METRICS: dict[str, Metric] = {
    "ttft": Metric("time to first token, ms", _quantiles("ttft"), "ttft_ms"),
    "itl": Metric("between tokens, ms", _quantiles("itl"), "itl_ms"),
    "total": Metric("whole answer, ms", _quantiles("total"), "total_ms"),
    "queue": Metric("queue, ms", _quantiles("queue")),
    "requests": Metric(
        "requests and errors a second",
        (
            ("requests/s", lambda point, seconds: point["requests"] / seconds),
            ("errors/s", lambda point, seconds: point["errors"] / seconds),
        ),
    ),
    "tokens": Metric(
        "tokens a second",
        (
            ("generated/s", lambda point, seconds: point["completion_tokens"] / seconds),
            ("read/s", lambda point, seconds: point["prompt_tokens"] / seconds),
        ),
    ),
    "good": Metric(
        "goodput, %: answers within the SLO", (("good", lambda point, seconds: 100 * point["good"] / max(1, point["requests"])),)
    ),
}
VERSIONS = "versions"
"""The p95 of all versions over each other, where several answer."""


def metrics_of(history: LatencyHistory | None, slo: Mapping[str, float]) -> list[str]:
    """What there is to show: goodput only where something is asked of the answers, versions where there are several."""
    names = [name for name in METRICS if name != "good" or any(slo.values())]
    several = history is not None and sum(bool(points) for points in history["versions"].values()) > 1
    return [*names[:1], VERSIONS, *names[1:]] if several else names


def title_of(metric: str) -> str:
    """For the panel's line."""
    return "first token p95 of each version, ms" if metric == VERSIONS else METRICS[metric].title


def curves_of(history: LatencyHistory | None, metric: str, version: str, slo: Mapping[str, float]) -> list[Curve]:
    """A version's curves; where a stretch had no request a latency has a gap and a rate is zero."""
    if history is None:
        return []
    seconds = history["seconds"]
    if metric == VERSIONS:
        told = [(name, points) for name, points in history["versions"].items() if points]
        curves = [_curve(name, points, seconds, lambda point, _: point["ttft_p95"], False) for name, points in told]
        limit = slo.get("ttft_ms", 0.0)
    else:
        points = history["versions"].get(version, [])
        rates = metric in ("requests", "tokens")
        curves = [_curve(name, points, seconds, read, rates) for name, read in METRICS[metric].of] if points else []
        limit = slo.get(METRICS[metric].slo, 0.0) if METRICS[metric].slo else 0.0
    curves = [curve for curve in curves if curve.x]
    if curves and limit:
        ends = [history["since"], history["until"]]
        curves.append(Curve.from_points("SLO", ends, [limit, limit], TIME))
    return curves


def change_marks(changes: Sequence[EndpointChange], since: float, until: float) -> list[Mark]:
    """When other versions began to answer: a line each."""
    return [
        Mark("rollback" if change["what"] == "rollback" else change["what"], None, change["t"], f"to {split_words(change['after'])}")
        for change in changes
        if change["what"] in _PRESSING and since <= change["t"] <= until
    ]


def _curve(
    name: str, points: Sequence[LatencyPoint], seconds: float, read: Callable[[LatencyPoint, float], float | None], rate: bool
) -> Curve:
    """Where nobody asked a rate is zero, and a latency is not drawn: a piece ends there."""
    times: list[float] = []
    values: list[float] = []
    begins: list[int] = []
    before: float | None = None
    for point in points:
        value = read(point, seconds)
        if value is None:
            continue
        if rate and before is not None and point["t"] - before > 1.5 * seconds:
            times += [before + 1.5 * seconds, point["t"] - seconds / 2]
            values += [0.0, 0.0]
        elif before is None or point["t"] - before > 1.5 * seconds:
            begins.append(len(times))
        times.append(point["t"] + seconds / 2)
        values.append(value)
        before = point["t"]
    pieces = tuple(pairwise([*begins, len(times)])) if begins else ()
    return Curve(name, times, values, values, values, pieces, values[-1] if values else None, axis=TIME)
