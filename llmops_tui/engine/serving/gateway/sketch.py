"""Quantiles that can be merged: counts in buckets whose bounds grow by 2 %: right to 1 % (Masson et al. 2019, DDSketch)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

_GAMMA = 1.02
_SCALE = 1.0 / math.log(_GAMMA)
_LEAST = 1e-5  # seconds: everything below is one bucket
_log = math.log


class Sketch:
    """Counts by bucket; values in seconds."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: defaultdict[int, int] = defaultdict(int)

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    def add(self, value: float, times: int = 1) -> None:
        self.buckets[int(_log(value / _LEAST) * _SCALE) if value > _LEAST else 0] += times

    def merge(self, other: Sketch) -> None:
        for bucket, times in other.buckets.items():
            self.buckets[bucket] += times

    def quantiles(self, wanted: Iterable[float]) -> list[float]:
        """The values nearest to these ranks in [0, 1], ascending; zeros when empty. Of a few values the 99th percentile is the largest."""
        last = self.count - 1
        ranks = [round(rank * last) for rank in wanted]
        found: list[float] = []
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            while len(found) < len(ranks) and seen > ranks[len(found)]:
                found.append(_LEAST * _GAMMA ** (bucket + 0.5) if bucket else _LEAST / 2)
        return found + [0.0] * (len(ranks) - len(found))
