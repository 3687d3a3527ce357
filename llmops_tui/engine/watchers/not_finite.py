"""A loss or a gradient that is no number any more."""

from __future__ import annotations

import math
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look

_WORDS = {"loss": "the loss", "eval_loss": "the held-out loss", "grad_norm": "the gradient's norm"}


class NotFinite:
    """Fires at the first NaN or infinity, and again only after `calm` finite values. Never wrong: such a value is the fault."""

    families: ClassVar[tuple[Family, ...]] = ("loss", "eval_loss", "grad_norm")

    def __init__(self, calm: int = 20) -> None:
        self._calm = calm
        self._good = calm
        self._last: float | None = None

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """Any value."""
        self._last = value
        if math.isfinite(value):
            self._good += 1
            return None
        fresh, self._good = self._good >= self._calm, 0
        what = "NaN" if math.isnan(value) else "infinite"
        return Firing(step, t, value, None, f"{_WORDS[family]} is {what} at step {step}") if fresh else None

    def look(self) -> Look:
        """Raised until enough good values came."""
        return Look("raised" if self._good < self._calm else "quiet", self._last, None)
