"""Runs put together over their seeds: the mean of each metric with its interval. Pure; standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmops_tui.errors import UsageError
from llmops_tui.specs.metric_sense import least_wins

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Comparison, Scalar

# Student's t at 0.975 for 1 to 15 degrees of freedom: a comparison has at most 16 runs.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314)
_REPEATS = frozenset({"seed", "priority"})


class Mean(NamedTuple):
    """Of `runs` values. `half` is half the width of the 95 % interval of the mean (Student's t); None where one run tells nothing of it."""

    mean: float
    half: float | None
    runs: int


class Group(NamedTuple):
    """The runs that have this value of the key, by their places in the comparison."""

    value: Scalar
    runs: list[int]


class Grouped(NamedTuple):
    """`means[metric]` runs parallel to `groups`, None where no run of a group has it. `loose`: settings that differ within a group."""

    key: str
    groups: list[Group]
    means: dict[str, list[Mean | None]]
    loose: list[str]


def keys_to_group_by(comparison: Comparison) -> list[str]:
    """Settings that put at least two runs together and at least two apart, in the spec's order."""
    return [
        row["key"]
        for row in comparison["config"]
        if row["differs"] and row["key"] not in _REPEATS and 1 < len({repr(value) for value in row["values"]}) < len(row["values"])
    ]


def group(comparison: Comparison, key: str) -> Grouped:
    """By one setting (`cfg.` and all but its end may be left out), in the order of its values. Raises UsageError for one no run has."""
    wanted = key.removeprefix("cfg.")
    rows = [row for row in comparison["config"] if row["key"] == wanted]
    rows = rows or [row for row in comparison["config"] if row["key"].endswith(f".{wanted}")]
    if len(rows) != 1:
        others = (
            ", ".join(row["key"] for row in rows) or ", ".join(keys_to_group_by(comparison)) or "none: every run differs from every other"
        )
        what = "is the end of several settings" if rows else "is a setting of none of these runs"
        raise UsageError(f"{key!r} {what}", f"group by one of: {others}" if rows else f"settings that put runs together: {others}")
    values = rows[0]["values"]
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(repr(value), []).append(place)
    groups = sorted((Group(values[members[0]], members) for members in places.values()), key=lambda one: _order(one.value))
    means = {
        metric["metric"]: [mean_of([value for place in one.runs if (value := metric["last"][place]) is not None]) for one in groups]
        for metric in comparison["metrics"]
    }
    loose = [
        row["key"]
        for row in comparison["config"]
        if row["key"] not in _REPEATS and any(len({repr(row["values"][place]) for place in one.runs}) > 1 for one in groups)
    ]
    return Grouped(rows[0]["key"], groups, means, loose)


def mean_of(values: Sequence[float]) -> Mean | None:
    """With Student's t interval, which takes the runs for independent and their values for about normal; None of no value."""
    count = len(values)
    if not count:
        return None
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, 1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Mean(mean, _T[min(count - 1, len(_T)) - 1] * spread / math.sqrt(count), count)


def best_group(metric: str, means: Sequence[Mean | None]) -> int | None:
    """The group whose interval lies wholly on the better side of every other's; None where none does, or no side is known as better."""
    lower = least_wins(metric)
    told = [(place, one) for place, one in enumerate(means) if one is not None]
    if lower is None or len(told) < 2 or any(one.half is None for _, one in told):
        return None
    sign = 1 if lower else -1
    ends = [(sign * one.mean - (one.half or 0.0), sign * one.mean + (one.half or 0.0), place) for place, one in told]
    ends.sort(key=lambda end: end[1])
    return ends[0][2] if all(ends[0][1] < other[0] for other in ends[1:]) else None


def _order(value: Scalar) -> tuple[int, float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, str(value))
