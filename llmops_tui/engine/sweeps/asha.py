"""Which trials are not worth going on with. Pure: what is decided follows from the reports alone, so a restart decides the same.

Asynchronous successive halving in its stopping form (Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning",
arXiv:1810.05934, algorithm 2; Optuna's SuccessiveHalvingPruner does the same with steps): rung k lies at `first * eta ** k` tokens;
a trial that reaches it goes on only if its value there is among the best 1/eta of all that have reached it so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmops_tui.engine.sweeps.trials import PRUNED, Report, Trial


def first_rung(trials: Sequence[Trial]) -> int | None:
    """Where the trial that reports the soonest reports first; None before any has."""
    return min((trial.reports[0].tokens for trial in trials if trial.reports), default=None)


def at_rung(reports: Sequence[Report], tokens: int) -> float | None:
    """The first value told at or after so many tokens; None for a trial that has not come so far."""
    return next((report.value for report in reports if report.tokens >= tokens), None)


def cut(trial: Trial, trials: Sequence[Trial], *, eta: int, first: int | None, least_wins: bool, metric: str) -> str:
    """Why the trial is to be ended, or nothing. `trials` are all of the sweep, itself among them.

    Only the highest rung it reached counts: at the lower ones it was let through. A value that is no number is the worst.
    """
    base = first if first is not None else first_rung(trials)
    if base is None or not trial.reports or trial.reports[-1].tokens < base:
        return ""
    rung = base
    while rung * eta <= trial.reports[-1].tokens:
        rung *= eta
    own = at_rung(trial.reports, rung)
    assert own is not None  # its last report lies beyond the rung
    others = [
        (value, other.number) for other in trials if other.number != trial.number and (value := at_rung(other.reports, rung)) is not None
    ]
    reached = len(others) + 1
    kept = max(1, reached // eta)
    # Of equal values the earlier one goes on: settings that change nothing yet would otherwise all go on together.
    mine = (_cost(own, least_wins), trial.number)
    better = sum((_cost(value, least_wins), number) < mine for value, number in others)
    if better < kept and math.isfinite(own):
        return ""
    return f"{PRUNED}{rung:,} tokens: {metric} {own:.4g} is not among the best {kept} of {reached}"


def _cost(value: float, least_wins: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return value if least_wins else -value
