"""A curve, ready to draw: from the engine's buckets on an axis of steps, of wall time or of elapsed time, or from plain points.

NaN, infinities and None are gaps. A curve of a hundred thousand points is made by whole-column operations, without a loop over its points.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from math import isfinite, nan
from operator import itemgetter

Bucket = Sequence[float | None]
"""`[step_first, step_last, count, minimum, maximum, mean, last, t_last]`, as the engine answers."""

STEP, TIME, ELAPSED, NUMBER = "step", "time", "elapsed", "number"


@dataclass(frozen=True)
class Reading:
    """What a curve says at a place: the newest value there, and the smallest and largest of the stretch asked for."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One series: x ascending and the values at or around each x.

    `pieces` are the index ranges without a gap, `gaps` the x that had no value. `final` is the newest value, None where the newest is
    a gap. `axis` says what x is; a curve from buckets knows the other axes too. `origin`: unix seconds that its elapsed time begins at.
    """

    name: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    last: Sequence[float]
    pieces: tuple[tuple[int, int], ...]
    final: float | None
    gaps: tuple[float, ...] = ()
    axis: str = STEP
    mean: Sequence[float] = ()
    buckets: Sequence[Bucket] = field(default=(), repr=False, compare=False)
    origin: float | None = None

    @property
    def apart(self) -> bool:
        """Whether its points are meant to stand alone: it is one, or a cloud of them; not for want of values in between."""
        return len(self.x) == 1 or (bool(self.pieces) and not self.gaps and all(end - first == 1 for first, end in self.pieces))

    @staticmethod
    def of(name: str, points: Iterable[tuple[float, float | None, float | None, float | None]], axis: str = STEP) -> Curve:
        """From `(x, low, high, last)`, x ascending; None, NaN and infinities are gaps."""
        return _walk(name, ((x, low, high, last, last) for x, low, high, last in points), axis)

    @staticmethod
    def from_points(name: str, x: Sequence[float], values: Sequence[float | None], axis: str = STEP) -> Curve:
        """From two columns of equal length; an x out of order is put in its place."""
        numbers = _whole(x, values)
        if numbers is not None:
            at, value = numbers
            if axis == STEP or _ascending(at):
                return Curve(name, at, value, value, value, ((0, len(at)),) if at else (), value[-1] if at else None, axis=axis, mean=value)
        rows = [(at, value) for at, value in zip(x, values, strict=True) if at is not None and isfinite(at)]
        if not _ascending([at for at, _ in rows]):
            rows.sort(key=lambda row: row[0])
        return _walk(name, ((at, value, value, value, value) for at, value in rows), axis)

    @staticmethod
    def from_buckets(name: str, buckets: Sequence[Bucket], axis: str = STEP, origin: float | None = None) -> Curve:
        """From the engine's buckets. x is the middle of the steps, the time of the last point, or that less `origin` (unix seconds)."""
        if not buckets:
            return Curve(name, (), (), (), (), (), None, axis=axis, origin=origin)
        begin = _first_time(buckets) if origin is None else origin
        # A column at a time: `zip(*buckets)` takes eight times as long for a hundred thousand of them.
        columns = [list(map(itemgetter(at), buckets)) for at in ((3, 4, 6, 0, 1) if axis == STEP else (3, 4, 6, 7))]
        numbers = _whole(*columns)
        if numbers is not None:
            low, high, last, x, *final = numbers
            if axis == STEP and final[0] != x:
                x = [(a + b) / 2 for a, b in zip(x, final[0], strict=True)]
            elif axis == ELAPSED:
                x = [moment - begin for moment in x]
            if axis == STEP or _ascending(x):
                return Curve(name, x, low, high, last, ((0, len(x)),), last[-1], (), axis, (), buckets, origin)
        rows: list[tuple[float, float | None, float | None, float | None, float | None]] = []
        for bucket in buckets:
            at = _place(bucket, axis, begin)
            if at is not None:
                rows.append((at, bucket[3], bucket[4], bucket[6], bucket[5]))
        if axis != STEP:
            rows.sort(key=lambda row: row[0])  # a retried run goes back some steps, never in time
        return _walk(name, rows, axis, buckets, origin)

    def on(self, axis: str, begin: float | None = None) -> Curve:
        """The same on another axis; a curve without buckets stays what it is, but time and elapsed time are one shift apart."""
        if axis == self.axis:
            return self
        if self.buckets:
            return replace(
                Curve.from_buckets(self.name, self.buckets, axis, begin if self.origin is None else self.origin), origin=self.origin
            )
        if {axis, self.axis} == {TIME, ELAPSED}:
            shift = (begin or 0.0) * (1 if axis == TIME else -1)
            return replace(self, x=[x + shift for x in self.x], gaps=tuple(x + shift for x in self.gaps), axis=axis)
        return self

    def axes(self) -> tuple[str, ...]:
        """The axes it can be drawn on."""
        if self.buckets:
            return (STEP, TIME, ELAPSED) if _first_time(self.buckets) else (STEP,)
        return (TIME, ELAPSED) if self.axis in (TIME, ELAPSED) else (self.axis,)

    def first_time(self) -> float | None:
        """Unix seconds of its first point, where it knows."""
        if self.buckets:
            return _first_time(self.buckets) or None
        return self.x[0] if self.axis == TIME and self.x else None

    def read(self, x: float, grain: float = 0.0) -> Reading | None:
        """Its values within `grain` around x, else its last one before x; NaN in a gap; None before its first point and after its end."""
        left, right = bisect_left(self.x, x - grain / 2), bisect_right(self.x, x + grain / 2)
        hole = bisect_right(self.gaps, x + grain / 2)
        newest_gap = self.gaps[hole - 1] if hole else None
        if right > left:
            return Reading(self.last[right - 1], min(self.low[left:right]), max(self.high[left:right]))
        if newest_gap is not None and (not right or newest_gap > self.x[right - 1]):
            return Reading(nan, nan, nan)
        if not right:
            return None
        if right == len(self.x) and right > 1 and x - self.x[-1] > 1.5 * (self.x[-1] - self.x[-2]) + grain:
            return None
        return Reading(*[self.last[right - 1]] * 3)

    @cached_property
    def clock(self) -> tuple[list[float], list[float]]:
        """Steps and the moments they were reached, both ascending; empty where the curve has no times."""
        steps: list[float] = []
        times: list[float] = []
        for bucket in self.buckets:
            step, moment = _place(bucket, STEP, 0.0), bucket[7]
            if step is not None and moment:
                steps.append(step)
                times.append(moment)
        return steps, list(accumulate(times, max))

    def smoothed(self, weight: float) -> Curve:
        """Its exponential moving average, one weight a point, without the bias of the beginning (Kingma and Ba, 2015, section 3)."""
        values: list[float] = []
        kept = share = 0.0
        for value in self._means():
            kept = weight * kept + (1 - weight) * value
            share = weight * share + (1 - weight)
            values.append(kept / share)
        final = values[-1] if values and self.final is not None else None
        return Curve(self.name, self.x, values, values, values, self.pieces, final, self.gaps, self.axis, values)

    def _means(self) -> Sequence[float]:
        if self.mean or not self.buckets:
            return self.mean or self.last
        means = [bucket[5] for bucket in self.buckets]  # without a gap they are as many, in the same order
        return [last if mean is None else mean for mean, last in zip(means, self.last, strict=True)]


def spliced(whole: Curve, fine: Curve) -> Curve:
    """The curve with its stretch of `fine` in finer buckets. Both from buckets; nothing of `whole` outside that stretch is lost."""
    if not fine.buckets or not whole.buckets:
        return whole
    begin, end = fine.buckets[0][0], fine.buckets[-1][1]
    if begin is None or end is None:
        return whole
    around = [b for b in whole.buckets if b[0] is not None and b[1] is not None and (b[0] < begin or b[1] > end)]
    rows = sorted([*around, *fine.buckets], key=lambda bucket: _place(bucket, STEP, 0.0) or 0.0)
    return Curve.from_buckets(whole.name, rows, STEP, whole.origin)


def time_of_step(curve: Curve, step: float) -> float | None:
    """When a step was reached, between two points in proportion; None where the curve has no times."""
    steps, times = curve.clock
    return _between(steps, times, step)


def step_of_time(curve: Curve, moment: float) -> float | None:
    """Which step was reached at a moment; None where the curve has no times."""
    steps, times = curve.clock
    return _between(times, steps, moment)


def _between(source: Sequence[float], target: Sequence[float], value: float) -> float | None:
    if not source:
        return None
    at = bisect_left(source, value)
    if at == 0 or at == len(source):
        return target[min(at, len(source) - 1)]
    before, after = source[at - 1], source[at]
    return target[at - 1] + (target[at] - target[at - 1]) * ((value - before) / (after - before) if after > before else 0.0)


def _place(bucket: Bucket, axis: str, begin: float) -> float | None:
    if axis == STEP:
        first, final = bucket[0], bucket[1]
        return None if first is None or final is None else (first + final) / 2
    return None if bucket[7] is None else bucket[7] - (begin if axis == ELAPSED else 0.0)


def _first_time(buckets: Sequence[Bucket]) -> float:
    return next((bucket[7] for bucket in buckets if bucket[7]), 0.0)


def _whole(*columns: Sequence[float | None]) -> list[Sequence[float]] | None:
    """The columns if they hold nothing but finite numbers: their sums are finite then, and one sum is much cheaper than a look at each."""
    whole: list[Sequence[float]] = []
    for column in columns:
        try:
            total = sum(column)  # type: ignore[arg-type]  # None raises
        except (TypeError, OverflowError):
            return None
        if not isfinite(total):
            return None
        whole.append(column)  # type: ignore[arg-type]
    return whole


def _ascending(x: Sequence[float]) -> bool:
    return list(x) == sorted(x)


def _walk(
    name: str,
    points: Iterable[tuple[float, float | None, float | None, float | None, float | None]],
    axis: str,
    buckets: Sequence[Bucket] = (),
    origin: float | None = None,
) -> Curve:
    """From `(x, low, high, last, mean)` one by one: where there are gaps."""
    x: list[float] = []
    low: list[float] = []
    high: list[float] = []
    last: list[float] = []
    mean: list[float] = []
    gaps: list[float] = []
    pieces: list[tuple[int, int]] = []
    begin, final = 0, None
    for at, least, most, ending, middle in points:
        if least is None or most is None or not isfinite(least) or not isfinite(most):
            if begin < len(x):
                pieces.append((begin, len(x)))
            begin, final = len(x), None
            gaps.append(at)
            continue
        broken = ending is None or not isfinite(ending)
        x.append(at)
        low.append(least)
        high.append(most)
        last.append(most if broken or ending is None else ending)
        mean.append(last[-1] if middle is None or not isfinite(middle) else middle)
        final = None if broken else ending
        if broken:  # the newest value of the bucket is NaN: the curve stops here
            gaps.append(at)
            pieces.append((begin, len(x)))
            begin = len(x)
    if begin < len(x):
        pieces.append((begin, len(x)))
    return Curve(name, x, low, high, last, tuple(pieces), final, tuple(gaps), axis, mean, buckets, origin)
