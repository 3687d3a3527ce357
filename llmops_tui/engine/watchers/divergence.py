"""A training loss that rises and stays up."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number
from llmops_tui.engine.watchers.usual import Usual

_WINDOW = 100
_LEAST = 30
_LEAST_SPREAD = 0.01
_ALLOWANCE = 1.0
_CLIP = 4.0  # no single value, however wild, counts for more
_BEGINNING = 8
_BLOWN_UP = 1.6
_LEAST_RISE = 0.5


class Divergence:
    """A one-sided CUSUM of `(loss - median) / spread - 1`, each term at most 4: fires when the sum passes `limit`.

    Median and spread are of the last 100 losses, which are not learnt from while the sum is high. (Page 1954; the robust
    reference as in Montgomery, Statistical Quality Control, 9.1.) So that a run that blows up in its first steps is seen too,
    it also fires where the median of 8 losses is 1.6 times that of the first 8.
    """

    families: ClassVar[tuple[Family, ...]] = ("loss",)

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._usual = Usual(_WINDOW)
        self._sum = 0.0
        self._since = 0  # the step at which the sum last began to rise
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=_BEGINNING)
        self._level: float | None = None  # what the loss must fall below before it may fire again
        self._blown_up = False

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training loss."""
        self._recent.append(value)
        return self._against_beginning(step, t, value) or self._against_usual(step, t, value)

    def look(self) -> Look:
        """The sum beside its limit."""
        raised = self._level is not None or self._blown_up
        learning = len(self._usual) < _LEAST
        return Look("raised" if raised else "learning" if learning else "quiet", self._sum, self._limit)

    def _against_beginning(self, step: int, t: float, value: float) -> Firing | None:
        if len(self._first) < _BEGINNING:
            self._first.append(value)
            return None
        begin = median(self._first)
        bar = max(_BLOWN_UP * begin, begin + _LEAST_RISE)
        if begin <= 0 or min(self._recent) < begin or median(self._recent) < bar:
            self._blown_up = self._blown_up and median(self._recent) > begin
            return None
        if self._blown_up:
            return None
        self._blown_up = True
        now = median(self._recent)
        words = f"the loss diverges: {number(now)} at step {step}, {number(begin)} at the beginning"
        return Firing(step, t, now, bar, words, max(1, step - _BEGINNING))

    def _against_usual(self, step: int, t: float, value: float) -> Firing | None:
        usual = self._usual
        if len(usual) < _LEAST:
            usual.add(value)
            return None
        middle = usual.median
        spread = max(usual.spread, _LEAST_SPREAD * abs(middle))
        if spread == 0.0:  # zeros alone, as of grpo while all answers of a prompt earn the same: nothing to measure a rise by
            usual.add(value)
            return None
        self._sum = max(0.0, self._sum + min((value - middle) / spread, _CLIP) - _ALLOWANCE)
        if self._sum == 0.0:
            self._since = step + 1
        if self._sum <= self._limit / 2:
            usual.add(value)
        if self._level is not None and median(self._recent) <= self._level:
            self._level = None
        if self._sum < self._limit:
            return None
        fresh, self._level = self._level is None and not self._blown_up, middle
        self._sum = 0.0
        usual.clear()
        words = f"the loss rises and stays up: {number(median(self._recent))} around step {step}, {number(middle)} before"
        return Firing(step, t, median(self._recent), middle + spread, words, self._since) if fresh else None
