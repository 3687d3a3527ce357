"""`trainer_state.json` of the Transformers trainer: its whole history, written anew at each checkpoint. Standard library only."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from llmops_tui.engine.foreign.names import trainer_name
from llmops_tui.engine.foreign.reading import Reading, Stretch

_LARGEST_BYTES = 256 << 20


def read_trainer_state(path: Path) -> Stretch:
    """The history as it stands. `at` is a digest of the entry: the same entry stands in every later file. Raises OSError.

    A file in the middle of being written is no JSON yet; it is said to be a problem only by who sees it unchanged later.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        return Stretch(problem=f"is larger than {_LARGEST_BYTES >> 20} MiB")
    try:
        state = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Stretch(problem="is no whole JSON")
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        return Stretch(problem="has no log_history: it is not the Transformers trainer's")
    stretch = Stretch(done=_whole(state.get("global_step")), total=_whole(state.get("max_steps")))
    for entry in history:
        if not isinstance(entry, dict) or (step := _whole(entry.get("step"))) is None:
            continue
        values = {
            trainer_name(name): float(value)
            for name, value in entry.items()
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and not _too_large(value)
        }
        if values:
            stretch.readings.append(Reading(step, values, digest(entry)))
    return stretch


def digest(entry: dict[str, object]) -> str:
    """Tells an entry of a history from every other one."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value)


def _too_large(value: float) -> bool:
    return isinstance(value, int) and abs(value) >= 2**1023
