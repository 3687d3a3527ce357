"""Gradients: one that explodes, and one that is not there."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number
from llmops_tui.engine.watchers.usual import Usual

_WINDOW = 100
_LEAST = 20
_RECENT = 5
_HIGH_OF_RECENT = 3
_SPREADS = 6.0
_FROZEN_NORM = 1e-8
_FROZEN_STEPS = 5
_FROZEN_STEPS_OF_REWARDS = 20  # a few prompts whose answers all earn the same are nothing unusual
_FROZEN_ADAPTER_STEPS = 20


class ExplodingGradient:
    """Fires when 3 of the last 5 norms are `times` the usual one, and 6 spreads above it on the logarithm.

    One high norm is nothing: it is scaled down to `optim.max_grad_norm`.
    """

    families: ClassVar[tuple[Family, ...]] = ("grad_norm",)

    def __init__(self, times: float) -> None:
        self._rise = math.log(times)
        self._usual = Usual(_WINDOW)
        self._high: deque[bool] = deque(maxlen=_RECENT)
        self._raised = False
        self._last: float | None = None
        self._threshold: float | None = None

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A gradient's norm before it is scaled down."""
        self._last = value
        if value <= 0:
            return None
        usual, height = self._usual, math.log(value)
        if len(usual) < _LEAST:
            usual.add(height)
            return None
        middle = usual.median
        bar = middle + max(self._rise, _SPREADS * usual.spread)
        self._threshold = math.exp(min(bar, 700.0))
        self._high.append(height > bar)
        usual.add(min(height, bar))
        count = sum(self._high)
        if count < _HIGH_OF_RECENT:
            self._raised = self._raised and count > 0
            return None
        fresh, self._raised = not self._raised, True
        words = f"the gradient explodes: norm {number(value)} at step {step}, {number(math.exp(middle))} is usual"
        return Firing(step, t, value, self._threshold, words) if fresh else None

    def look(self) -> Look:
        """The newest norm beside its threshold."""
        return Look("raised" if self._raised else "learning" if self._threshold is None else "quiet", self._last, self._threshold)


class Frozen:
    """Fires when nothing is learnt: 5 gradients of norm 0 (20, where rewards are learnt from), or an adapter whose norm is the same
    20 times while there is a rate.

    Never wrong about what it says; a run of which all rows are known by heart may mean it.
    """

    families: ClassVar[tuple[Family, ...]] = ("grad_norm", "learning_rate", "adapter_norm")

    def __init__(self, *, rewards: bool = False) -> None:
        self._rewards = rewards
        self._most_zeros = _FROZEN_STEPS_OF_REWARDS if rewards else _FROZEN_STEPS
        self._zeros = 0
        self._same = 0
        self._rate = 1.0
        self._norm: float | None = None
        self._last: float | None = None
        self._raised = False

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A gradient's norm, the learning rate or the adapter's norm."""
        if family == "learning_rate":
            self._rate = value
            return None
        if family == "grad_norm":
            self._last = value
            self._zeros = self._zeros + 1 if abs(value) < _FROZEN_NORM else 0
        elif self._rate > 0:
            self._same = self._same + 1 if value == self._norm else 0
            self._norm = value
        frozen = self._zeros >= self._most_zeros or self._same >= _FROZEN_ADAPTER_STEPS
        fresh, self._raised = frozen and not self._raised, frozen
        if not fresh:
            return None
        if self._zeros >= self._most_zeros:
            why = "do all answers of a prompt earn the same?" if self._rewards else "is anything trainable, is any token labelled?"
            words = f"nothing is learnt: no gradient in the {self._zeros} steps to {step}; {why}"
            return Firing(step, t, self._last or 0.0, _FROZEN_NORM, words)
        words = f"nothing is learnt: the adapter's norm has been {number(value)} for {self._same} steps, up to step {step}"
        return Firing(step, t, value, None, words)

    def look(self) -> Look:
        """The newest gradient's norm."""
        return Look("raised" if self._raised else "quiet", self._last, _FROZEN_NORM)
