"""The wish to merge an adapter into its base, and to have the result compared with the adapter before anybody uses it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator

from llmops_tui.specs.common import BASIC, DATASET, MODEL, MOST_TOKENS, Limits, RunSpec, StrictModel, name_or_nothing
from llmops_tui.specs.row_formats import RowFormat


class VerifyChoice(StrictModel):
    """The rows on which adapter and merged model are compared, and how far apart they may be."""

    dataset: str = Field(
        "", description="Rows to compare on; empty takes those the adapter's own run held out", json_schema_extra={**DATASET, **BASIC}
    )
    format: RowFormat = Field("auto", description="How a row of `dataset` is read; auto detects it")
    rows: int = Field(32, ge=1, le=10**6, description="At most this many rows are compared", json_schema_extra=BASIC)
    max_length: int = Field(512, ge=8, le=MOST_TOKENS, description="Tokens a row; longer rows are cut")
    mean_kl: float = Field(
        0.005,
        gt=0,
        le=100,
        description="Refused above this mean KL divergence (adapter ‖ merged), in nats a token",
        json_schema_extra=BASIC,
    )
    max_kl: float = Field(0.5, gt=0, le=1000, description="Refused where one token's KL divergence is above this, in nats")
    perplexity_change: float = Field(
        0.01, gt=0, le=100, description="Refused where the perplexity differs by more than this share, either way"
    )
    lost_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Refused where KL(adapter ‖ merged) is above this share of KL(adapter ‖ base): the adapter's effect was lost",
    )


class MergeSpec(RunSpec):
    """`merge`: an adapter into its base as safetensors, verified on real rows and refused where it is not the same model."""

    kind: Literal["merge"] = "merge"
    adapter: str = Field(min_length=1, description="A registered adapter (name, name@v1) or its directory", json_schema_extra=MODEL)
    verify: VerifyChoice = Field(default_factory=VerifyChoice, description="The comparison that decides")
    quantized_base: Literal["dequantize", "original"] = Field(
        "dequantize",
        description="An adapter trained with qlora: merge into the weights it saw (dequantized), or into the original ones",
    )
    keep_refused: bool = Field(False, description="Keep the files of a refused merge in the run's artifacts/refused")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Precision of the arithmetic; auto: float32 where it fits. The files keep the base's precision"
    )
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of torch; unset uses the cores this run holds")
    output: str = Field("", description="Registered name of the merged model; empty takes the run's name", json_schema_extra=BASIC)
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    @field_validator("output")
    @classmethod
    def _output_is_a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    def default_name(self) -> str:
        stem = PurePath(self.adapter.split("@")[0]).name.lower()
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "merge"
