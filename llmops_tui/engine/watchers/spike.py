"""A single training loss far above its neighbours: something is in that batch."""

from __future__ import annotations

import math
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number
from llmops_tui.engine.watchers.usual import Usual

_LEVEL_STEPS = 50
_NOISE_STEPS = 300
_LEAST = 60
_TIMES_FARTHEST = 2.5
_CALM = 10
_LEAST_SPREAD = 0.01  # of the median: a loss that hardly moves is no reason to take fright at a hundredth of it


class Spike:
    """Fires far above the median of the last 50 losses: by `spreads` times the noise, and 2.5 times as far as the farthest of the last 300.

    Noise is measured by the differences of neighbours (von Neumann 1941), and how far a loss lay by the median of its own time, so
    that a loss that falls steeply at the beginning does not count as a noisy one. The second half of the rule makes it hold where
    tails are heavy and a multiple of the spread is met by chance.
    """

    families: ClassVar[tuple[Family, ...]] = ("loss",)

    def __init__(self, spreads: float) -> None:
        self._spreads = spreads
        self._level = Usual(_LEVEL_STEPS)
        self._heights = Usual(_NOISE_STEPS)
        self._differences = Usual(_NOISE_STEPS)
        self._before = 0.0
        self._calm = _CALM
        self._last: float | None = None
        self._threshold: float | None = None

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training loss."""
        level, heights, self._last = self._level, self._heights, value
        if not level:
            level.add(value)
            self._before = value
            return None
        median = level.median
        if len(heights) < _LEAST:
            self._learn(value, median)
            return None
        farthest = max(0.0, heights.largest)
        spread = max(self._differences.spread / math.sqrt(2), _LEAST_SPREAD * abs(median))
        threshold = self._threshold = median + max(self._spreads * spread, _TIMES_FARTHEST * farthest)
        if spread == farthest == 0.0:  # zeros alone: the first value that is none is no spike
            self._learn(value, median)
            return None
        # A wild value is remembered as the threshold: the next one is seen too, and a new level is learnt in time.
        self._learn(min(value, threshold), median)
        if value <= threshold:
            self._calm += 1
            return None
        fresh, self._calm = self._calm >= _CALM, 0
        words = f"the loss jumped to {number(value)} at step {step}; of late it was {number(median)}, at most {number(median + farthest)}"
        return Firing(step, t, value, threshold, words) if fresh else None

    def look(self) -> Look:
        """Raised for ten steps after a spike."""
        learning = self._threshold is None
        return Look("learning" if learning else "raised" if self._calm < _CALM else "quiet", self._last, self._threshold)

    def _learn(self, value: float, median: float) -> None:
        self._level.add(value)
        self._heights.add(value - median)
        self._differences.add(value - self._before)
        self._before = value
