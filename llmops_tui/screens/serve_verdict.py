"""Is what is served healthy, and as fast as it was? The last hour beside the same hour of the day before, or beside a kept baseline. Pure.

Slower is said when both hold: the hour's p95 lies at least 5 % above, and a one-sided Mann–Whitney test (Mann and Whitney 1947) over the
p95 of the hours' stretches of five minutes says that chance alone would do this in less than 1 of 100 looks. The rate holds where the
stretches are independent of each other; five minutes are longer than what requests wait for one another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llmops_tui.specs.answers_requests import LatencyHistory, LatencyPoint

HOUR, DAY = 3600.0, 86_400.0
STRETCHES = 12
FALSE_ALARMS = 0.01
_LEAST_CHANGE = 0.05
_LEAST_REQUESTS = 30
_LEAST_STRETCHES = 4  # of fewer on each side no order whatever is rarer than 1 in 100: 4 and 5 give 1 in 126

Quantity = Literal["ttft", "total"]
Word = Literal["slower", "faster", "same", "few", "unknown"]


@dataclass(frozen=True)
class Stretch:
    """An hour of one version: how much was asked, how much failed, and its p95 (ms), of the whole and by stretches."""

    requests: int
    errors: int
    p95: Mapping[str, float | None]
    parts: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Comparison:
    """`change` is of the p95, +0.2 for a fifth slower; `chance` how often chance alone says so, None where nothing was tested."""

    word: Word
    quantity: Quantity
    version: str
    now: Stretch | None
    then: Stretch | None
    beside: str
    change: float | None = None
    chance: float | None = None


def stretch_of(whole: LatencyHistory, parts: LatencyHistory, version: str) -> Stretch:
    """`whole`: the hour as one stretch, `parts`: the same in twelve."""
    points = whole["versions"].get(version, [])
    requests, errors = sum(point["requests"] for point in points), sum(point["errors"] for point in points)
    pieces = parts["versions"].get(version, [])
    # At the edge of a stretch the engine may answer with two points: the larger one stands for the hour.
    largest = max(points, key=lambda point: point["requests"], default=None)
    return Stretch(
        requests, errors,
        {"ttft": largest["ttft_p95"] if largest else None, "total": largest["total_p95"] if largest else None},
        {"ttft": _values(pieces, "ttft"), "total": _values(pieces, "total")},
    )  # fmt: skip


def leading(history: LatencyHistory) -> str:
    """The version with the most requests; "" where there was none."""
    counts = {name: sum(point["requests"] for point in points) for name, points in history["versions"].items()}
    return max(counts, key=lambda name: counts[name]) if any(counts.values()) else ""


def compare(version: str, now: Stretch | None, then: Stretch | None, beside: str) -> Comparison:
    """`beside`: what `then` was, for a sentence. Time to the first token where both know it, else the whole time."""
    if now is None or then is None or not now.requests or not then.requests:
        return Comparison("unknown", "ttft", version, now, then, beside)
    both = now.p95["ttft"] is not None and then.p95["ttft"] is not None
    quantity: Quantity = "ttft" if both else "total"
    fresh, old = now.p95[quantity], then.p95[quantity]
    if fresh is None or not old:
        return Comparison("unknown", quantity, version, now, then, beside)
    change = fresh / old - 1
    ours, theirs = now.parts[quantity], then.parts[quantity]
    if min(now.requests, then.requests) < _LEAST_REQUESTS or min(len(ours), len(theirs)) < _LEAST_STRETCHES or len(ours) + len(theirs) < 9:
        return Comparison("few", quantity, version, now, then, beside, change)
    slower, faster = chance_of_larger(ours, theirs), chance_of_larger(theirs, ours)
    if change >= _LEAST_CHANGE and slower < FALSE_ALARMS:
        return Comparison("slower", quantity, version, now, then, beside, change, slower)
    if change <= -_LEAST_CHANGE and faster < FALSE_ALARMS:
        return Comparison("faster", quantity, version, now, then, beside, change, faster)
    return Comparison("same", quantity, version, now, then, beside, change, min(slower, faster))


def chance_of_larger(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How often as many of ours would be larger than theirs (or more) if both were alike: one-sided Mann–Whitney.

    Exact without ties; with ties the normal approximation with their correction.
    """
    wins = sum((a > b) + (a == b) / 2 for a in ours for b in theirs)
    n, m = len(ours), len(theirs)
    every = [*ours, *theirs]
    if len(set(every)) == len(every):
        ways = _ways(n, m)
        return sum(ways[math.ceil(wins) :]) / sum(ways)
    ties = sum(count**3 - count for count in (every.count(value) for value in set(every)))
    total = n + m
    spread = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if spread <= 0:
        return 1.0
    return 0.5 * math.erfc((wins - n * m / 2 - 0.5) / math.sqrt(2 * spread))


def _ways(n: int, m: int) -> list[int]:
    """How many orders of n and m values give each number of wins, from 0 to n·m: the coefficients of the Gaussian binomial."""
    ways = [1] + [0] * (n * m)
    for at in range(1, n + 1):  # times (1 - q^(m + at)) / (1 - q^at)
        for place in range(n * m, m + at - 1, -1):
            ways[place] -= ways[place - m - at]
        for place in range(at, n * m + 1):
            ways[place] += ways[place - at]
    return ways


def _values(points: Sequence[LatencyPoint], quantity: Quantity) -> tuple[float, ...]:
    found = [point["ttft_p95"] if quantity == "ttft" else point["total_p95"] for point in points]
    return tuple(value for value in found if value is not None)
