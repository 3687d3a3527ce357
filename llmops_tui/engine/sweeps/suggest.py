"""What the next trial tries, and which settings matter: Optuna asked and told.

Stateless: each question is put to a sampler made for it, seeded by the sweep's seed and the trial's number, over a study rebuilt
from the trials. So an engine that was killed asks the same and hears the same. Optuna is imported at the first question only.
"""

from __future__ import annotations

import importlib.util
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from llmops_tui.engine.sweeps.space import finite_size, grid, key_of, unseen, values_of
from llmops_tui.engine.sweeps.trials import Trial
from llmops_tui.specs.sweep import USUAL_TRIALS, Setting, SpaceChoice, SweepSpec

if TYPE_CHECKING:
    import optuna

_BLIND_TRIALS = 10  # TPE's own default: so many are random before it models anything
_TRIES = 20
_FEWEST_FOR_IMPORTANCE = 4
# Optuna's own settings (its verbosity) are the process's.
_one_at_a_time = threading.Lock()


def most_trials(spec: SweepSpec) -> int:
    """How many trials the sweep has at most: its budget's, its grid's, or as many as its space has points."""
    wanted = spec.budget.trials
    if spec.sampler == "grid":
        size = math.prod(len(values_of(choice)) for choice in spec.space.values())
        return size if wanted is None else min(wanted, size)
    points = finite_size(spec.space)
    wanted = USUAL_TRIALS if wanted is None else wanted
    return wanted if points is None else min(wanted, points)


def suggest(spec: SweepSpec, trials: Sequence[Trial], number: int) -> dict[str, Setting]:
    """The settings of trial `number` (from 1), given those before it. Never the same settings twice where there are others.

    Call it in a thread: the first call imports Optuna.
    """
    if spec.sampler == "grid":
        return grid(spec.space, spec.seed)[number - 1]
    seen = {key_of(trial.params) for trial in trials}
    with _one_at_a_time:
        point: dict[str, Setting] = {}
        for salt in range(_TRIES):
            point = _ask(spec, trials, number, salt)
            if key_of(point) not in seen:
                return point
    return unseen(spec.space, seen, spec.seed) or point


def importances(spec: SweepSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each setting decides whether a trial is among the best; adds up to 1, greatest first. {} while too few are told.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): Optuna's fANOVA needs scikit-learn, this does not. Call it in a thread.
    """
    told = [trial for trial in trials if trial.state in ("complete", "pruned") and trial.value is not None]
    if len(told) < _FEWEST_FOR_IMPORTANCE or len({trial.value for trial in told}) < 2 or importlib.util.find_spec("optuna") is None:
        return {}
    with _one_at_a_time:
        import optuna

        study = _study(spec, told, None, pruned_as_complete=True)
        # A quarter as the best, rather than a tenth: sweeps are small.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = optuna.importance.get_param_importances(study, evaluator=evaluator)
            except (ValueError, RuntimeError, ZeroDivisionError):  # all of them equally good
                return {}
    return {key: value for key, value in found.items() if value == value}


def _ask(spec: SweepSpec, trials: Sequence[Trial], number: int, salt: int) -> dict[str, Setting]:
    import optuna

    seed = int.from_bytes(blake2b(f"{spec.seed}/{number}/{salt}".encode(), digest_size=4).digest(), "little")
    sampler: optuna.samplers.BaseSampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if spec.sampler == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            # constant_liar: trials that still run count as bad ones near them, so that not all try the same.
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_BLIND_TRIALS, constant_liar=True)
    study = _study(spec, trials, sampler)
    asked = study.ask(_distributions(spec.space))
    return {key: _setting(spec.space[key], asked.params[key]) for key in spec.space}


def _study(
    spec: SweepSpec, trials: Sequence[Trial], sampler: optuna.samplers.BaseSampler | None, *, pruned_as_complete: bool = False
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.COMPLETE if pruned_as_complete else optuna.trial.TrialState.PRUNED,
        "running": optuna.trial.TrialState.RUNNING,
        "waiting": optuna.trial.TrialState.RUNNING,
    }
    study = optuna.create_study(direction="minimize" if spec.least_wins else "maximize", sampler=sampler)
    distributions = _distributions(spec.space)
    for trial in sorted(trials, key=lambda trial: trial.number):
        state = states.get(trial.state, optuna.trial.TrialState.FAIL)
        told = state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        if told and trial.value is None:
            state, told = optuna.trial.TrialState.FAIL, False
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=trial.value if told else None,
                params={key: _asked(spec.space[key], trial.params[key]) for key in spec.space},
                distributions=distributions,
                intermediate_values={report.tokens: report.value for report in trial.reports if math.isfinite(report.value)},
            )
        )
    return study


def _distributions(space: Mapping[str, SpaceChoice]) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for key, choice in space.items():
        if choice.choices:
            # By place: Optuna takes True and 1 for the same choice.
            found[key] = CategoricalDistribution(tuple(range(len(choice.choices))))
        elif choice.whole:
            found[key] = IntDistribution(int(choice.low or 0), int(choice.high or 0), log=choice.log, step=int(choice.step or 1))
        else:
            found[key] = FloatDistribution(float(choice.low or 0), float(choice.high or 0), log=choice.log, step=choice.step)
    return found


def _setting(choice: SpaceChoice, asked: int | float) -> Setting:
    """What Optuna answered as a value of the spec; twelve digits are enough for anybody, and read better."""
    if choice.choices:
        return choice.choices[int(asked)]
    return int(asked) if choice.whole else float(f"{asked:.12g}")


def _asked(choice: SpaceChoice, value: object) -> int | float:
    if choice.choices:
        return next(
            place for place, each in enumerate(choice.choices) if each == value and isinstance(each, bool) is isinstance(value, bool)
        )
    assert isinstance(value, int | float)
    low, high = choice.low or 0, choice.high or 0
    return max(low, min(high, value))  # rounded to twelve digits it may lie a hair outside
