"""The loss before anything was learnt: it tells a wrong template, a wrong tokenizer, or labels that are given away."""

from __future__ import annotations

from typing import ClassVar

from llmops_tui.engine.watchers.rule import Family, Firing, Look, number

_LATEST_STEP = 5


class FirstLoss:
    """Looks at one value, the first training loss: fires above `highest` (ln of the vocabulary and a margin) or below `lowest`.

    A model that knows nothing gives every token 1 / vocabulary: a loss of ln(vocabulary). Worse than that is no lack of
    knowledge, it is a fault.
    """

    families: ClassVar[tuple[Family, ...]] = ("loss",)

    def __init__(self, highest: float | None, lowest: float) -> None:
        self._highest = highest
        self._lowest = lowest
        self._value: float | None = None
        self._fired = False

    def feed(self, family: Family, step: int, t: float, value: float) -> Firing | None:
        """A training loss; only the first counts, and only at the run's beginning."""
        if self._value is not None:
            return None
        self._value = value
        if step > _LATEST_STEP:
            return None
        if self._highest is not None and value > self._highest:
            self._fired = True
            words = (
                f"the first loss is {number(value)}, worse than guessing among all tokens ({number(self._highest)} with its margin): "
                "look at the template, the tokenizer and the weights"
            )
            return Firing(step, t, value, self._highest, words)
        if value < self._lowest:
            self._fired = True
            words = f"the first loss is {number(value)}, absurdly low: the rows are known already, or the answer stands in the question"
            return Firing(step, t, value, self._lowest, words)
        return None

    def look(self) -> Look:
        """The first loss beside the highest it may have."""
        return Look("learning" if self._value is None else "raised" if self._fired else "quiet", self._value, self._highest)
