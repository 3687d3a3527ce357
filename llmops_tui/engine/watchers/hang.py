"""A run that says nothing: told well before its silence limit ends it."""

from __future__ import annotations

from collections import deque
from statistics import median

from llmops_tui.engine.watchers.rule import Firing, Look

_LEAST_SECONDS = 300.0
_TIMES_USUAL = 30.0
_GAPS = 50


class Hang:
    """Fires when neither an event nor a line of output came for `share` of `limits.hang_seconds`.

    Where no limit is set: for 30 times the usual pause between its records, five minutes at least, and only once it has
    reported some. It is fed times and asked by a clock, unlike the other rules.
    """

    def __init__(self, share: float, limit_seconds: float | None) -> None:
        self._share = share
        self._limit = limit_seconds
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self._last_t: float | None = None
        self._last_step = 0
        self._quiet = 0.0
        self._raised = False

    def record(self, step: int, t: float) -> None:
        """A record of metrics."""
        if self._last_t is not None and t > self._last_t:
            self._gaps.append(t - self._last_t)
        self._last_t, self._last_step = t, max(self._last_step, step)

    @property
    def threshold(self) -> float | None:
        """Seconds of silence that count; None while that is not known."""
        if self._limit is not None:
            return self._share * self._limit
        return max(_LEAST_SECONDS, _TIMES_USUAL * median(self._gaps)) if len(self._gaps) >= 3 else None

    def silent(self, seconds: float, now: float) -> Firing | None:
        """It has said nothing for so long, at `now` (Unix seconds)."""
        self._quiet, threshold = seconds, self.threshold
        if threshold is None or seconds < threshold:
            self._raised = False
            return None
        fresh, self._raised = not self._raised, True
        if not fresh:
            return None
        then = f"; at {self._limit:g} s it is ended" if self._limit is not None else ""
        return Firing(
            self._last_step, now, seconds, threshold, f"it has said nothing for {seconds:.0f} s, since step {self._last_step}{then}"
        )

    def look(self) -> Look:
        """Seconds of silence beside those that count."""
        threshold = self.threshold
        return Look("learning" if threshold is None else "raised" if self._raised else "quiet", self._quiet, threshold)
