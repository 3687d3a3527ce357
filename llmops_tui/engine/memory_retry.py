"""What is tried after a training ran out of memory, and what is advised when nothing is left to try. Pure.

The effective batch stays as it was, so the numbers stay comparable: fewer rows a pass and more passes an update, then gradient
checkpointing, which computes the activations twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmops_tui.engine.jobs.adjustments import Adjustment
from llmops_tui.specs.train import TrainSpec

_SHORTEST_ADVISED = 128
_LEAST_WORTH = 0.02
# The share of the predicted peak that a spec saves beside the one that ran; None where that cannot be told.
Saved = Callable[[TrainSpec], float | None]
# What grows with the tokens of a pass, as the estimate's parts are named (estimate/memory.py); the rest does not.
_GROWS_WITH_LENGTH = ("activations", "loss", "working", "allocator")


@dataclass(frozen=True)
class Advice:
    """Settings to start again with, and what they save: a share of the predicted peak, None where that was not predicted."""

    settings: dict[str, Any]
    words: str
    saves: float | None = None


def next_adjustment(spec: TrainSpec, halved: bool) -> Adjustment | None:
    """What the next attempt does otherwise; None when nothing is left. `spec` is as the last attempt followed it.

    `halved`: the micro-batch was halved before, so checkpointing comes before halving it again.
    """
    smaller = _halved(spec)
    if smaller is not None and not halved:
        return smaller
    if spec.gradient_checkpointing is not True:
        return Adjustment(gradient_checkpointing=True)
    return smaller


def changes(spec: TrainSpec, to: Adjustment) -> dict[str, Any]:
    """What the settings were before, for the record."""
    return {name: getattr(spec, name) for name in to}


def words(to: Mapping[str, Any]) -> str:
    """In a sentence: `micro_batch=2 accumulation=4 (the same batch)`."""
    told = " ".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in to.items())
    return told + (" (the same batch)" if "micro_batch" in to else "")


def advice(spec: TrainSpec, estimate: Mapping[str, Any] | None, saved: Saved = lambda spec: None) -> Advice | None:
    """What to start again with when the attempts are used up; None where only a smaller model is left.

    `estimate` is what was predicted for the run (prepared.estimate), whose parts tell how much a shorter row saves. `saved` tells what
    another spec saves of the predicted peak; what is known to save next to nothing is passed over.
    """
    candidates: list[tuple[dict[str, Any], str]] = []
    if (smaller := _halved(spec)) is not None:
        candidates.append((dict(smaller), words(smaller)))
    if spec.gradient_checkpointing is not True:
        candidates.append(({"gradient_checkpointing": True}, "gradient_checkpointing=true"))
    for settings, told in candidates:
        share = saved(spec.model_copy(update=settings))
        if share is None:
            return Advice(settings, f"try {told}")
        if share >= _LEAST_WORTH:
            return Advice(settings, f"try {told}: about {share:.0%} less memory", share)
    length = spec.max_length // 2
    if length >= _SHORTEST_ADVISED:
        share = saved(spec.model_copy(update={"max_length": length}))
        if share is None and (grows := _share_that_grows(estimate)) is not None:
            share = grows / 2
        if share is None:
            return Advice({"max_length": length}, f"max_length {length} would need about half the activations")
        if share >= _LEAST_WORTH:
            return Advice({"max_length": length}, f"max_length {length} would need about {share:.0%} less", share)
    if spec.adaptation == "full" and not spec.scratch.preset:
        share = saved(spec.model_copy(update={"adaptation": "lora"}))
        if share is not None and share >= _LEAST_WORTH:
            return Advice({"adaptation": "lora"}, f"adaptation=lora would need about {share:.0%} less", share)
    return None


def _halved(spec: TrainSpec) -> Adjustment | None:
    """At most half the rows a pass, and so many passes that an update has the same rows."""
    rows = spec.micro_batch * spec.accumulation
    smaller = next((size for size in range(spec.micro_batch // 2, 0, -1) if rows % size == 0), None)
    return None if smaller is None else Adjustment(micro_batch=smaller, accumulation=rows // smaller)


def _share_that_grows(estimate: Mapping[str, Any] | None) -> float | None:
    parts = estimate.get("parts") if estimate else None
    if not isinstance(parts, Mapping) or not all(isinstance(size, int | float) for size in parts.values()):
        return None
    whole = sum(parts.values())
    return sum(parts.get(name, 0) for name in _GROWS_WITH_LENGTH) / whole if whole > 0 else None
