"""What is checked before a sweep or a cross-validation is queued: its base as any run, and each other model or data set it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmops_tui.engine.preflight_checks import require_packages
from llmops_tui.engine.sweeps.decide import ParentSpec
from llmops_tui.engine.sweeps.plan import fold_settings, trial_spec
from llmops_tui.engine.sweeps.suggest import most_trials
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.crossval import CrossvalSpec

ADVICE = "lower the number of trials or base.keep_checkpoints, or set engine.refuse_start_free_bytes"
# Settings whose values are looked up on the box: a wrong one is found before the first trial, not by the tenth.
_LOOKED_UP = ("model", "dataset.")


def prepare_parent(spec: ParentSpec, prepare: Callable[[RunSpec], dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """What the preflight of one trial finds, and the forecast in bytes of all that will be kept. Raises what `prepare` raises."""
    if isinstance(spec, CrossvalSpec):
        first = _with_section(lambda: prepare(trial_spec(spec, "crossval", "fold", 0, 1, fold_settings(spec, 1))))
        return {**first, "trials": spec.folds}, int(first["disk_bytes"]) * spec.folds
    if spec.sampler != "grid":
        require_packages(("optuna",))
    found = _with_section(lambda: prepare(spec.base))
    for key, choice in spec.space.items():
        if key.startswith(_LOOKED_UP):
            for value in choice.corners():
                prepare(trial_spec(spec, "sweep", "trial", 0, 1, {key: value}))
    most = most_trials(spec)
    return {**found, "trials": most}, int(found["disk_bytes"]) * most


def _with_section(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The fields that are wrong are those of `base`."""
    try:
        return check()
    except LlmopsError as error:
        error.fields = [{**field, "field": f"base.{field['field']}"} for field in error.fields]
        raise
