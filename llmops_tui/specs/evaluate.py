"""The wish to score a model version on held-out rows: perplexity and token accuracy."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field

from llmops_tui.specs.common import BASIC, MODEL, MOST_TOKENS, Limits, RunSpec
from llmops_tui.specs.train import DatasetChoice


class EvaluateSpec(RunSpec):
    """`evaluate`: perplexity and token accuracy with their 95 % intervals over rows."""

    kind: Literal["evaluate"] = "evaluate"
    model: str = Field(
        min_length=1, description="A model directory, or a registered model or adapter: name, name@v1", json_schema_extra=MODEL
    )
    dataset: DatasetChoice
    split: Literal["held_out", "all"] = Field(
        "held_out", description="The rows a training run with this dataset choice holds out, or all", json_schema_extra=BASIC
    )
    max_length: int = Field(
        1024, ge=8, le=MOST_TOKENS, description="Tokens a row; longer rows are cut and counted", json_schema_extra=BASIC
    )
    batch: int = Field(8, ge=1, le=65536, description="Rows a forward pass", json_schema_extra=BASIC)
    assistant_only: bool = Field(True, description="Score the assistant's tokens alone; off scores every token")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where the GPU has it, else float32")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of torch; unset uses the cores this run holds")
    seed: int = Field(0, ge=0, lt=2**32, description="The seed of the split: the training run's, to score the same rows")
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    def default_name(self) -> str:
        stem = PurePath(self.dataset.path.split("@")[0]).stem.lower()
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "evaluate"
