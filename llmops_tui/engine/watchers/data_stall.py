"""Steps that wait for their rows."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look

_WINDOW = 20


class DataStall:
    """Fires when half of the last 20 steps spent more than `fraction` of their time waiting for data."""

    families: ClassVar[tuple[Family, ...]] = ("data_wait",)

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._raised = False

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """The share of a step that was waited, 0 to 1."""
        self._recent.append(value)
        if len(self._recent) < _WINDOW:
            return None
        middle = median(self._recent)
        if middle <= self._fraction:
            self._raised = self._raised and middle > 0.8 * self._fraction
            return None
        fresh, self._raised = not self._raised, True
        words = f"the steps wait for data: {middle:.0%} of their time in the {_WINDOW} steps to {step}"
        return Firing(step, t, middle, self._fraction, words) if fresh else None

    def look(self) -> Look:
        """The median of the last 20 steps."""
        learning = len(self._recent) < _WINDOW
        value = median(self._recent) if self._recent else None
        return Look("learning" if learning else "raised" if self._raised else "quiet", value, self._fraction)
