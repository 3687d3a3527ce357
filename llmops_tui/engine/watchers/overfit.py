"""A held-out loss that rises while the training loss falls."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number

_TRAIN_WINDOW = 20


class Overfit:
    """Fires when the last `patience` held-out losses are all `rise` (a share) above the best one, the newest the highest of
    them, and the training loss is lower than it was at the best one."""

    families: ClassVar[tuple[Family, ...]] = ("loss", "eval_loss")

    def __init__(self, patience: int, rise: float) -> None:
        self._patience = patience
        self._rise = rise
        self._train: deque[float] = deque(maxlen=_TRAIN_WINDOW)
        self._recent: deque[float] = deque(maxlen=patience)
        self._best: float | None = None
        self._best_step = 0
        self._train_at_best: float | None = None
        self._raised = False

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training or a held-out loss."""
        if family == "loss":
            self._train.append(value)
            return None
        train = median(self._train) if self._train else None
        self._recent.append(value)
        if self._best is None or value < self._best:
            self._best, self._best_step, self._train_at_best, self._raised = value, step, train, False
            return None
        bar = self._best + self._rise * abs(self._best)
        over = len(self._recent) == self._patience and min(self._recent) > bar and value >= max(self._recent)
        # The score before training has no training loss beside it: then the held-out loss alone decides.
        falls = self._train_at_best is None or (train is not None and train < self._train_at_best)
        if not over or not falls or self._raised:
            return None
        self._raised = True
        words = (
            f"the held-out loss rises ({number(value)} at step {step}, {number(self._best)} at step {self._best_step}) "
            "while the training loss falls: it learns the rows by heart"
        )
        return Firing(step, t, value, bar, words)

    def look(self) -> Look:
        """The newest held-out loss beside what it may rise to."""
        bar = None if self._best is None else self._best + self._rise * abs(self._best)
        newest = self._recent[-1] if self._recent else None
        return Look("raised" if self._raised else "learning" if self._best is None else "quiet", newest, bar)
