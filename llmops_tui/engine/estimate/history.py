"""Predicted beside measured, from the run directories: what `prepared.estimate` said and what the job's summary says in its `end` event.

The run directory is the truth: nothing is stored twice, and an engine that starts anew reads it again. Reads the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.attempt_files import told_at_the_end
from llmops_tui.engine.estimate.calibration import FORMULA, Likeness, Outcome
from llmops_tui.specs.answers import Measured


def measured(run: RunDir, attempt: int, device: str) -> Measured | None:
    """From the end of the newest attempt; None where it told none."""
    summary = told_at_the_end(run, attempt)
    if not summary:
        return None
    on_gpu = device == "cuda"
    work = _positive(summary.get("gpu_peak_bytes" if on_gpu else "rss_growth_bytes"))
    return Measured(
        memory_bytes=_whole(work if on_gpu else _positive(summary.get("peak_rss_bytes"))),
        work_bytes=_whole(work),
        seconds=_positive(summary.get("seconds")),
        tokens=_whole(_positive(summary.get("tokens"))),
    )


def outcome(estimate: Mapping[str, Any], found: Measured) -> Outcome | None:
    """One finished run for the calibration; None where another version's formula predicted it."""
    formula = estimate.get("formula")
    if not isinstance(formula, Mapping) or formula.get("version") != FORMULA:
        return None
    likeness = Likeness(
        str(estimate.get("device")), str(estimate.get("adaptation")), estimate.get("checkpointing") is True, str(formula.get("family"))
    )
    tokens, predicted_tokens = found["tokens"], _positive(estimate.get("tokens"))
    pace = _positive(formula.get("training_seconds"))
    seconds = None
    if found["seconds"] and pace and tokens and predicted_tokens:
        # Seconds a token: that the rows were longer than thought is no fault of the speed.
        seconds = (found["seconds"] / tokens) / (pace / predicted_tokens)
    work = _positive(formula.get("work_bytes"))
    return Outcome(likeness, found["work_bytes"] / work if found["work_bytes"] and work else None, seconds)


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
