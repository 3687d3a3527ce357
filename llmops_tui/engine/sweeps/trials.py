"""A trial of a sweep, or a fold of a cross-validation, as its parent sees it. What stands here follows from the trial's run directory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from llmops_tui.specs.answers import Scalar

TrialState = Literal["waiting", "running", "complete", "pruned", "failed", "cancelled"]
LIVE = frozenset({"waiting", "running"})
PRUNED = "pruned at "


class Report(NamedTuple):
    """A value of the metric, and how many tokens the trial had learnt from by then (steps, where it does not tell tokens)."""

    tokens: int
    value: float


@dataclass(frozen=True)
class Trial:
    """`number` counts from 1. `reports` are in the order of their tokens; `run_id` is empty for one that could not even be queued.

    `ending`: it was told to stop, and has not yet.
    """

    number: int
    run_id: str
    state: TrialState
    params: Mapping[str, Scalar] = field(default_factory=dict)
    reports: Sequence[Report] = ()
    tokens: int = 0
    reason: str = ""
    ending: bool = False
    joules: float | None = None
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def value(self) -> float | None:
        """The newest report's value; None without one, or where it is no number."""
        if not self.reports or not math.isfinite(self.reports[-1].value):
            return None
        return self.reports[-1].value


def best_first(trials: Sequence[Trial], least_wins: bool) -> list[Trial]:
    """Complete ones by value, then the pruned and running by theirs, then those without a value."""

    def key(trial: Trial) -> tuple[int, float, int]:
        value = trial.value
        if value is None:
            return (2, 0.0, trial.number)
        return (0 if trial.state == "complete" else 1, value if least_wins else -value, trial.number)

    return sorted(trials, key=key)


def best(trials: Sequence[Trial], least_wins: bool) -> Trial | None:
    """The best of the complete ones: values after fewer tokens do not compare."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return best_first(complete, least_wins)[0] if complete else None


def eta_seconds(trials: Sequence[Trial], total: int) -> float | None:
    """Until `total` trials have ended, at the rate so far from the first begin to the last end; None before any has ended."""
    began = [trial.started_at for trial in trials if trial.started_at is not None]
    ended = [trial.ended_at for trial in trials if trial.state not in LIVE and trial.ended_at is not None]
    if not began or not ended or max(ended) <= min(began):
        return None
    return round((max(ended) - min(began)) / len(ended) * max(0, total - len(ended)), 1)
