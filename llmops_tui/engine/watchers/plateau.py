"""A training loss that does not fall any more."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, quantiles
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number

_LARGEST_STRETCH = 4000
_SURENESS = 3.0
_CLIP_SPREADS = 3.0
_IQR_OF_NORMAL = 1.349


class Plateau:
    """Compares the last `window` losses with as many before; fires when they are *surely* less than `improvement` apart.

    Surely: the difference of the means plus three standard errors is below the bar, so noise alone never makes a plateau. Where
    noise hides the answer, stretches two, four… times as long are compared. Values beyond three spreads count as three.
    """

    families: ClassVar[tuple[Family, ...]] = ("loss",)

    def __init__(self, window: int, improvement: float) -> None:
        self._window = window
        self._improvement = improvement
        self._losses: deque[float] = deque(maxlen=2 * max(window, _LARGEST_STRETCH))
        self._count = 0
        self._level: float | None = None
        self._gain: float | None = None

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training loss; one in a quarter of the window is looked at."""
        self._losses.append(value)
        self._count += 1
        if self._count % max(1, self._window // 4) or len(self._losses) < 2 * self._window:
            return None
        losses = list(self._losses)
        if self._level is not None and fmean(losses[-self._window :]) < self._level * (1 - self._improvement):
            self._level = None
        length = self._window
        while 2 * length <= len(losses):
            gain, error, now = _difference(losses[-2 * length : -length], losses[-length:])
            if now <= 0:
                return None  # a loss that may be negative has no share to fall by
            self._gain = gain / now
            if gain + _SURENESS * error < self._improvement * now:
                return self._fire(step, t, length, now)
            if gain - _SURENESS * error >= self._improvement * now:
                return None  # it surely falls
            length *= 2
        return None

    def look(self) -> Look:
        """The share the loss fell by between the two stretches, beside what is asked."""
        learning = len(self._losses) < 2 * self._window
        return Look("raised" if self._level is not None else "learning" if learning else "quiet", self._gain, self._improvement)

    def _fire(self, step: int, t: float, length: int, now: float) -> Firing | None:
        if self._level is not None:
            return None
        self._level = now
        words = f"the loss stays at {number(now)}: in the {length} steps to {step} it fell by less than {self._improvement:.1%}"
        return Firing(step, t, self._gain or 0.0, self._improvement, words)


def _difference(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """How far the mean fell, its standard error, and the later mean."""
    first, first_error = _mean(before)
    second, second_error = _mean(after)
    return first - second, math.hypot(first_error, second_error), second


def _mean(values: list[float]) -> tuple[float, float]:
    low, middle, high = quantiles(values, n=4)
    spread = (high - low) / _IQR_OF_NORMAL
    low, high = middle - _CLIP_SPREADS * spread, middle + _CLIP_SPREADS * spread
    kept = [min(high, max(low, value)) for value in values]
    mean = fmean(kept)
    variance = sum((value - mean) ** 2 for value in kept) / (len(kept) - 1)
    return mean, math.sqrt(variance / len(kept))
