"""What other settings would save of a run's memory, from what was found of its model and rows when it was submitted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops_tui.engine.estimate.estimate import Box, estimate
from llmops_tui.engine.estimate.facts import read_model
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import following


def share_saved(prepared: Mapping[str, Any], before: TrainSpec, after: TrainSpec) -> float | None:
    """Of the predicted peak, by the formula alone: 0.25 is a quarter less, below 0 is more. None where nothing was predicted."""
    try:
        facts, told = prepared["facts"], prepared["estimate"]
        model, rows = read_model(facts["model"]), RowFacts(**facts["rows"])
        box = Box(str(told["device"]), str(told["device_name"]), told["capacity_bytes"], 1)
        specs = (following(spec, prepared.get("continued")) for spec in (before, after))
        was, now = (estimate(spec, model, rows, box)["memory_bytes"] for spec in specs)
    except (KeyError, TypeError, ValueError, AttributeError, LlmopsError):  # an engine of before kept less of it
        return None
    return 1 - now / was if was > 0 else None
