"""What this box's finished runs say about the predictions: a correction and a band for runs like them. Pure.

Each finished run gives `log(measured / predicted)` of the uncorrected formula. A correction is their mean, drawn towards that of
the wider group and at last towards none, as if `_PRIOR_RUNS` runs had said that: one run moves it a little, ten decide it
(an empirical Bayes estimate; Gelman et al., Bayesian Data Analysis, section 5.4). Groups, from wide to narrow: the device; with
adaptation and checkpointing; with the architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

# Only records of the same formula are comparable. Raise it when memory.py, activations.py or speed.py change what they predict.
FORMULA = 2
Quantity = Literal["memory", "seconds"]
_PRIOR_RUNS = 1.0
_NORMAL_95 = 1.96
# Standard deviation of log(measured / predicted) where no run was measured. Memory on a CPU: twice that of the 22 runs
# the formula was fitted to. On a GPU it was not measured yet (benchmarks/gpu/memory.py does); of speed: how far processors and GPUs differ.
_PRIOR_SPREAD: dict[tuple[Quantity, str], float] = {
    ("memory", "cpu"): 0.1, ("memory", "cuda"): 0.08, ("seconds", "cpu"): 0.4, ("seconds", "cuda"): 0.6,
}  # fmt: skip
# Repeated runs of one spec differ by as much; no number of runs makes a band narrower.
_LEAST_SPREAD: dict[Quantity, float] = {"memory": 0.02, "seconds": 0.05}


class Likeness(NamedTuple):
    """What runs are grouped by, from the widest to the narrowest."""

    device: str
    adaptation: str
    checkpointing: bool
    architecture: str

    def groups(self) -> list[tuple[object, ...]]:
        return [(self.device,), (self.device, self.adaptation, self.checkpointing), tuple(self)]


@dataclass(frozen=True)
class Outcome:
    """A finished run: measured over predicted, by the uncorrected formula; None where one of them is not known."""

    likeness: Likeness
    memory: float | None
    seconds: float | None

    def ratio(self, quantity: Quantity) -> float | None:
        return self.memory if quantity == "memory" else self.seconds


@dataclass(frozen=True)
class Correction:
    """Multiply the formula's answer by `factor`; 95 % of runs lie between `low` and `high` times that. `alike` runs were like it."""

    factor: float
    low: float
    high: float
    alike: int
    runs: int


class Calibration:
    """The corrections that these outcomes give."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self._ratios: dict[tuple[Quantity, tuple[object, ...]], list[float]] = {}
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """One more finished run. Ratios that are no positive numbers are left out."""
        quantities: tuple[Quantity, Quantity] = ("memory", "seconds")
        for quantity in quantities:
            ratio = outcome.ratio(quantity)
            if ratio is not None and math.isfinite(ratio) and ratio > 0:
                for group in outcome.likeness.groups():
                    self._ratios.setdefault((quantity, group), []).append(math.log(ratio))

    def correction(self, quantity: Quantity, likeness: Likeness) -> Correction:
        """For a run like this."""
        centre, narrowest, counts = 0.0, [], []
        for group in likeness.groups():
            logs = self._ratios.get((quantity, group), [])
            counts.append(len(logs))
            if logs:
                centre = (sum(logs) + _PRIOR_RUNS * centre) / (len(logs) + _PRIOR_RUNS)
                narrowest = logs
        spread = _spread(quantity, likeness.device, narrowest, centre)
        if not counts[-1]:
            # Runs of another kind agree among themselves, whatever they say of this one: that makes nobody surer of it.
            spread = max(spread, _PRIOR_SPREAD[quantity, likeness.device])
        # The centre itself is uncertain too.
        width = _NORMAL_95 * spread * math.sqrt(1 + 1 / (len(narrowest) + _PRIOR_RUNS)) if narrowest else _NORMAL_95 * spread
        return Correction(math.exp(centre), math.exp(-width), math.exp(width), counts[-1], counts[0])


def _spread(quantity: Quantity, device: str, logs: Sequence[float], centre: float) -> float:
    prior = _PRIOR_SPREAD[quantity, device]
    squares = sum((value - centre) ** 2 for value in logs) + _PRIOR_RUNS * prior**2
    return max(_LEAST_SPREAD[quantity], math.sqrt(squares / (len(logs) + _PRIOR_RUNS)))
