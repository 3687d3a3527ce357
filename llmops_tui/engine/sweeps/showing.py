"""A parent and its trials as its screen and `sweeps show` have them. Blocking where importances are asked for: call it in a thread."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.sweeps.decide import ParentSpec, energy_kwh
from llmops_tui.engine.sweeps.fold_scores import together
from llmops_tui.engine.sweeps.suggest import importances, most_trials
from llmops_tui.engine.sweeps.trials import LIVE, Trial, best_first, eta_seconds
from llmops_tui.specs.answers_sweep import FoldAnswer, FoldRows, SweepAnswer, SweepBudgetUse, SweepRange, SweepTrial
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.metric_sense import least_wins

_MOST_REPORTS = 200


def describe(parent: LiveRun, spec: ParentSpec, trials: Sequence[Trial], rows: Mapping[str, FoldRows]) -> SweepAnswer:
    """`rows` are those of each fold by its run; empty for a sweep."""
    folded = isinstance(spec, CrossvalSpec)
    lower = spec.least_wins if not isinstance(spec, CrossvalSpec) else least_wins(spec.metric) is not False
    space: dict[str, SweepRange] = {}
    if not isinstance(spec, CrossvalSpec):
        for key, choice in spec.space.items():
            space[key] = SweepRange(choices=list(choice.choices), low=choice.low, high=choice.high, log=choice.log)
    return SweepAnswer(
        id=parent.id,
        kind=parent.kind,
        name=parent.name,
        state=parent.state,
        reason=parent.reason,
        metric=spec.metric,
        least_wins=lower,
        sampler="" if isinstance(spec, CrossvalSpec) else spec.sampler,
        pruner="" if isinstance(spec, CrossvalSpec) else spec.pruner,
        space=space,
        trials=[_trial(trial) for trial in best_first(trials, lower)],
        best_so_far=[] if folded else _best_so_far(trials, lower),
        importances={} if isinstance(spec, CrossvalSpec) else importances(spec, trials),
        folds=_folds(trials, rows) if folded else None,
        budget=_budget(parent, spec, trials),
    )


def fold_rows_of(records: Mapping[str, Mapping[str, Any]]) -> dict[str, FoldRows]:
    """How each fold's rows were divided, from what the preflight of its run found."""
    found = {}
    for run_id, record in records.items():
        mark, prepared = record.get("trial"), record.get("prepared")
        rows = prepared.get("rows") if isinstance(prepared, dict) else None
        if isinstance(mark, dict) and isinstance(rows, dict):
            number, learnt, held_out = mark.get("number"), rows.get("learnt"), rows.get("held_out")
            if isinstance(number, int) and isinstance(learnt, int) and isinstance(held_out, int):
                found[run_id] = FoldRows(fold=number, learnt=learnt, held_out=held_out)
    return found


def held_out_share(rows: Sequence[FoldRows], folds: int) -> float:
    """Rows held out a row learnt from, over all folds; 1 / (k - 1) where nothing is known of them."""
    learnt = sum(each["learnt"] for each in rows)
    return sum(each["held_out"] for each in rows) / learnt if learnt else 1 / max(1, folds - 1)


def _trial(trial: Trial) -> SweepTrial:
    reports = list(trial.reports)
    if len(reports) > _MOST_REPORTS:  # the last one is the trial's value, and stays
        every = math.ceil(len(reports) / _MOST_REPORTS)
        reports = reports[::-1][::every][::-1]
    return SweepTrial(
        number=trial.number,
        run=trial.run_id,
        state=trial.state,
        reason=trial.reason,
        params=dict(trial.params),
        value=trial.value,
        tokens=trial.tokens,
        reports=[[report.tokens, report.value if math.isfinite(report.value) else None] for report in reports],
        started_at=trial.started_at,
        ended_at=trial.ended_at,
    )


def _best_so_far(trials: Sequence[Trial], lower: bool) -> list[list[float]]:
    """One point an ended trial; only complete ones can be the best."""
    ended = sorted((trial for trial in trials if trial.state not in LIVE), key=lambda trial: (trial.ended_at or 0.0, trial.number))
    points: list[list[float]] = []
    reached: float | None = None
    for count, trial in enumerate(ended, 1):
        if trial.state == "complete" and trial.value is not None:
            better = reached is None or (trial.value < reached if lower else trial.value > reached)
            reached = trial.value if better else reached
        if reached is not None:
            points.append([count, reached])
    return points


def _folds(trials: Sequence[Trial], rows: Mapping[str, FoldRows]) -> FoldAnswer | None:
    scores = [trial.value for trial in trials if trial.state == "complete" and trial.value is not None]
    known = sorted(rows.values(), key=lambda each: each["fold"])
    found = together(scores, held_out_share(known, len(trials)))
    if found is None:
        return None
    return FoldAnswer(mean=found.mean, deviation=found.deviation, low=found.low, high=found.high, rows=known)


def _budget(parent: LiveRun, spec: ParentSpec, trials: Sequence[Trial]) -> SweepBudgetUse:
    began, until = parent.started_at, parent.ended_at or time.time()
    total = spec.folds if isinstance(spec, CrossvalSpec) else most_trials(spec)
    own = None if isinstance(spec, CrossvalSpec) else spec.budget
    return SweepBudgetUse(
        trials=total,
        trials_used=len(trials),
        hours=own.hours if own else None,
        hours_used=max(0.0, until - began) / 3600 if began is not None else 0.0,
        energy_kwh=own.energy_kwh if own else None,
        energy_kwh_used=energy_kwh(trials),
        tokens=sum(trial.tokens for trial in trials),
        eta_seconds=eta_seconds(trials, total) if parent.ended_at is None else None,
    )
