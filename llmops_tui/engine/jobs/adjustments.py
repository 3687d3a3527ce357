"""What an attempt does otherwise than its spec says: after it ran out of memory, or as its user set it while it ran.

The engine keeps it in the run's journal and hands it to the job as `$LLMOPS_ADJUST`; the spec stays as it was submitted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import TypedDict

from llmops_tui.specs.common import MOST_STEPS
from llmops_tui.specs.train import TrainSpec

VARIABLE = "LLMOPS_ADJUST"
_LARGEST_SCALE = 1000.0


class Adjustment(TypedDict, total=False):
    """Only what differs. `checkpoint_every` and `evaluate_every`: None is never; `learning_rate_scale` is over the spec's own rate."""

    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool
    learning_rate_scale: float
    checkpoint_every: int | None
    evaluate_every: int | None


def read_adjustment(values: object) -> Adjustment:
    """From JSON; what is no adjustment of ours is left out."""
    found = Adjustment()
    if not isinstance(values, dict):
        return found
    known: dict[str, Callable[[object], bool]] = {
        "micro_batch": is_count,
        "accumulation": is_count,
        "gradient_checkpointing": lambda value: isinstance(value, bool),
        "learning_rate_scale": is_scale,
        "checkpoint_every": lambda value: value is None or is_count(value),
        "evaluate_every": lambda value: value is None or is_count(value),
    }
    for name, good in known.items():
        if name in values and good(values[name]):
            found[name] = values[name]  # type: ignore[literal-required]
    return found


def is_count(value: object) -> bool:
    """A number of steps or rows."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_STEPS


def is_scale(value: object) -> bool:
    """A factor of the learning rate."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= _LARGEST_SCALE


def of_this_attempt(environment: Mapping[str, str] | None = None) -> Adjustment:
    """What the engine told this process; nothing where it told nothing, or nonsense."""
    try:
        return read_adjustment(json.loads((os.environ if environment is None else environment).get(VARIABLE) or "{}"))
    except ValueError:
        return Adjustment()


def adjusted(spec: TrainSpec, adjustment: Adjustment) -> TrainSpec:
    """The spec as this attempt follows it. The learning rate's scale is not part of it: the schedule is scaled (callback.py)."""
    changes = {name: value for name, value in adjustment.items() if name != "learning_rate_scale"}
    return spec.model_copy(update=changes) if changes else spec
