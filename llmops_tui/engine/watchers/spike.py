"""A single training loss far above its neighbours: something is in that batch."""

from __future__ import annotations

from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number
from llmops_tui.engine.watchers.usual import Usual

_WINDOW = 300
_TIMES_FARTHEST = 2.5
_LEAST = 30
_CALM = 10
_LEAST_SPREAD = 0.01  # of the median: a loss that hardly moves is no reason to take fright at a hundredth of it


class Spike:
    """Fires above `median + spreads · spread` of the last 300 losses, and 2.5 times as far from the median as the farthest of them.

    The second half makes it hold for losses with heavy tails, where a multiple of the spread is met by chance.
    """

    families: ClassVar[tuple[Family, ...]] = ("loss",)

    def __init__(self, spreads: float) -> None:
        self._spreads = spreads
        self._usual = Usual(_WINDOW)
        self._calm = _CALM
        self._last: float | None = None
        self._threshold: float | None = None

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training loss."""
        usual, self._last = self._usual, value
        if len(usual) < _LEAST:
            usual.add(value)
            return None
        median, highest = usual.median, usual.largest
        spread = max(usual.spread, _LEAST_SPREAD * abs(median))
        threshold = self._threshold = median + max(self._spreads * spread, _TIMES_FARTHEST * (highest - median))
        # A wild value enters the window as the threshold: the next one is seen too, and a new level is learnt in time.
        usual.add(min(value, threshold))
        if value <= threshold:
            self._calm += 1
            return None
        fresh, self._calm = self._calm >= _CALM, 0
        words = f"the loss jumped to {number(value)} at step {step}; of late it was {number(median)}, at most {number(highest)}"
        return Firing(step, t, value, threshold, words) if fresh else None

    def look(self) -> Look:
        """Raised for ten steps after a spike."""
        learning = self._threshold is None
        return Look("learning" if learning else "raised" if self._calm < _CALM else "quiet", self._last, self._threshold)
