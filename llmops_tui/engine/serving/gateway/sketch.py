"""Quantiles that can be merged: counts in buckets whose bounds grow by 2 %: right to 1 % (Masson et al. 2019, DDSketch)."""

from __future__ import annotations

import math
from collections.abc import Iterable

_GAMMA = 1.02
_SCALE = 1.0 / math.log(_GAMMA)
_LEAST = 1e-5  # seconds: everything below is one bucket
_log = math.log


class Sketch:
    """Counts by bucket; values in seconds."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        bucket = int(_log(value / _LEAST) * _SCALE) if value > _LEAST else 0
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + times
        self.count += times
        self.total += value * times

    def merge(self, other: Sketch) -> None:
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += other.count
        self.total += other.total

    def quantiles(self, wanted: Iterable[float]) -> list[float]:
        """The values nearest to these ranks in [0, 1], ascending; zeros when empty. Of a few values the 99th percentile is the largest."""
        ranks = [round(rank * (self.count - 1)) for rank in wanted]
        found: list[float] = []
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            while len(found) < len(ranks) and seen > ranks[len(found)]:
                found.append(_LEAST * _GAMMA ** (bucket + 0.5) if bucket else _LEAST / 2)
        return found + [0.0] * (len(ranks) - len(found))
