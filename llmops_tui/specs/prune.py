"""The wish to make a model smaller or sparser, with its perplexity before and after, and to heal it from its unpruned self."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmops_tui.specs.common import BASIC, MODEL, MOST_STEPS, MOST_TOKENS, Limits, RunSpec, StrictModel, name_or_nothing
from llmops_tui.specs.train import DatasetChoice


class HealChoice(StrictModel):
    """A short distillation from the unpruned model, on the rows that are not held out."""

    steps: int = Field(0, ge=0, le=MOST_STEPS, description="Optimizer steps; 0 does not heal", json_schema_extra=BASIC)
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Highest rate: a short rise, then a cosine", json_schema_extra=BASIC)
    batch: int = Field(4, ge=1, le=65536, description="Rows a step")
    temperature: float = Field(1.0, gt=0, le=100, description="Softens what teacher and student predict")
    weight: float = Field(1.0, ge=0, le=1, description="Share of the teacher's predictions in the loss; the rest is the rows themselves")
    checkpoint_every: int | None = Field(
        None, gt=0, le=MOST_STEPS, description="Steps between checkpoints, of which the newest is kept; unset: none, and a retry heals anew"
    )


class PruneSpec(RunSpec):
    """`prune`: whole layers by block influence, or single weights by magnitude or Wanda; perplexity before, after and healed."""

    kind: Literal["prune"] = "prune"
    model: str = Field(min_length=1, description="A full model: registered (name, name@v1) or a directory", json_schema_extra=MODEL)
    dataset: DatasetChoice
    method: Literal["layers", "magnitude", "wanda"] = Field(
        "layers",
        description="Whole layers of least influence, or weights by their size, or by size times what they meet",
        json_schema_extra=BASIC,
    )
    layers: int | None = Field(
        None, ge=1, le=100_000, description="method=layers: how many go; unset follows sparsity", json_schema_extra=BASIC
    )
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="Share that goes; unset: a quarter of the layers, half of the weights", json_schema_extra=BASIC
    )
    pattern: Literal["none", "2:4"] = Field("none", description="Which weights may go together; 2:4: two of every four neighbours")
    calibration_rows: int = Field(32, ge=1, le=10**6, description="Rows on which influence, or what weights meet, is measured")
    max_length: int = Field(512, ge=8, le=MOST_TOKENS, description="Tokens a row; longer rows are cut and counted", json_schema_extra=BASIC)
    assistant_only: bool = Field(True, description="Score and heal on the assistant's tokens alone; off takes every token")
    heal: HealChoice = Field(default_factory=HealChoice, description="Healing")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Precision of the work; auto: float32 where it fits. The files keep the model's precision"
    )
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of torch; unset uses the cores this run holds")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the split and of the order of rows")
    output: str = Field("", description="Registered name of the pruned model; empty takes the run's name", json_schema_extra=BASIC)
    on_lost: Literal["stay", "requeue"] = Field(
        "requeue", description="After a reboot or a lost process: stay `lost`, or requeue from the last complete checkpoint"
    )
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    @field_validator("output")
    @classmethod
    def _output_is_a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    @model_validator(mode="after")
    def _parts_fit(self) -> PruneSpec:
        if self.layers is not None and self.method != "layers":
            raise ValueError("layers goes with method=layers; set sparsity for single weights")
        if self.layers is not None and self.sparsity is not None:
            raise ValueError("set layers or sparsity, not both")
        if self.pattern == "2:4" and self.method == "layers":
            raise ValueError("pattern=2:4 is for single weights: set method=wanda or method=magnitude")
        if self.pattern == "2:4" and self.sparsity not in (None, 0.5):
            raise ValueError("pattern=2:4 is a sparsity of 0.5: leave sparsity unset")
        return self

    def default_name(self) -> str:
        stem = PurePath(self.model.split("@")[0]).name.lower()
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "prune"

    def share(self) -> float:
        """The sparsity meant where none is set."""
        return self.sparsity if self.sparsity is not None else 0.25 if self.method == "layers" else 0.5

    def layers_of(self, count: int) -> int:
        """How many of `count` layers go; halves are rounded up, so that a quarter is never less than a quarter."""
        return self.layers if self.layers is not None else max(1, int(self.share() * count + 0.5))
