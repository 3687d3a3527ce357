"""The wish to keep what a model knew: rehearsal, a probe of its base ability, early stopping, the best checkpoint."""

from __future__ import annotations

from pydantic import Field

from llmops_tui.specs.common import DATASET, StrictModel
from llmops_tui.specs.row_formats import RowFormat


class RehearsalChoice(StrictModel):
    """Rows of general kind that are learnt among the others."""

    path: str = Field(min_length=1, description="A file, a directory or a registered dataset", json_schema_extra=DATASET)
    format: RowFormat = Field("auto", description="How a row is read; auto detects it")
    weight: float = Field(
        0.1, gt=0, le=100, description="Its rows for each row of the dataset; drawn by the seed, again where it has fewer"
    )


class EarlyStopChoice(StrictModel):
    """When to end before the last step; needs evaluate_every."""

    patience: int | None = Field(None, ge=1, le=10_000, description="End after so many evaluations in a row without a better held-out loss")
    min_delta: float = Field(0.0, ge=0, le=100, description="A loss is better when it is lower by more than this")


class KeepChoice(StrictModel):
    """What is done against forgetting and against learning by heart."""

    rehearsal: list[RehearsalChoice] = Field(default_factory=list, max_length=16, description="Other datasets mixed in (sft, pretrain)")
    probe_path: str = Field(
        "",
        description="Rows of general ability, scored before and after (loss; accuracy where they have options); empty: not measured",
        json_schema_extra=DATASET,
    )
    probe_format: RowFormat = Field("auto", description="How a row of the probe is read; auto detects it")
    probe_limit: int = Field(200, ge=2, le=100_000, description="At most so many rows of the probe are scored, drawn by the seed")
    best: bool = Field(False, description="Keep the checkpoint of the lowest held-out loss, and save that model; needs evaluate_every")
    early_stop: EarlyStopChoice = Field(default_factory=EarlyStopChoice)

    @property
    def watched(self) -> bool:
        """Whether an evaluation in between decides anything."""
        return self.best or self.early_stop.patience is not None


def objection_to_keep(keep: KeepChoice, method: str, evaluate_every: int | None) -> str:
    """What of the wish cannot be, as `field: reason`; empty where nothing is wrong."""
    if keep.rehearsal and method not in ("sft", "pretrain"):
        return f"keep.rehearsal: {method} learns from rows of another kind; leave it out, or use sft or pretrain"
    if keep.probe_path and method == "reward":
        return "keep.probe_path: a reward model speaks no more, so that nothing can be probed; leave it out"
    if keep.best and not evaluate_every:
        return "keep.best: the best is found by evaluations in between; set evaluate_every"
    if keep.early_stop.patience and not evaluate_every:
        return "keep.early_stop.patience: counts evaluations in between; set evaluate_every"
    return ""
