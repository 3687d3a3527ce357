"""The wish to make one adapter of several that were trained on the same base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from llmops_tui.specs.common import BASIC, Limits, RunSpec, name_or_nothing


class CombineSpec(RunSpec):
    """`combine`: several adapters of one base into one, weighted: linear, TIES, DARE, or their exact sum."""

    kind: Literal["combine"] = "combine"
    adapters: dict[str, float] = Field(
        description="Adapter and weight: fiqa@v1=0.7 boolq@v2=0.3; weights may be negative",
        min_length=2,
        max_length=16,
        json_schema_extra=BASIC,
    )
    method: Literal["linear", "ties", "dare_linear", "dare_ties", "cat"] = Field(
        "linear",
        description="linear: weighted matrices; ties: small entries and signs in the minority dropped; dare: entries dropped at random; "
        "cat: the exact weighted sum, for any ranks, as long as all together",
        json_schema_extra=BASIC,
    )
    density: float = Field(
        0.5, gt=0, le=1, description="ties and dare: share of each adapter's entries that is kept", json_schema_extra=BASIC
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="Precision of the arithmetic; auto: float32 where it fits")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of torch; unset uses the cores this run holds")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of what dare drops")
    output: str = Field("", description="Registered name of the combined adapter; empty takes the run's name", json_schema_extra=BASIC)
    limits: Limits = Field(default_factory=lambda: Limits(hang_seconds=1800.0))

    @field_validator("adapters", mode="before")
    @classmethod
    def _a_list_will_do(cls, value: object) -> object:
        """`[{model, weight}, …]`, or names alone, each with the weight 1."""
        if not isinstance(value, list):
            return value
        found: dict[str, object] = {}
        for number, item in enumerate(value):
            if isinstance(item, str):
                name, weight = item, 1.0
            elif isinstance(item, Mapping) and isinstance(item.get("model"), str) and item.keys() <= {"model", "weight"}:
                name, weight = item["model"], item.get("weight", 1.0)
            else:
                raise ValueError(f"entry {number} should be a name, or a mapping of model and weight")
            if name in found:
                raise ValueError(f"{name} is named twice")
            found[name] = weight
        return found

    @field_validator("adapters")
    @classmethod
    def _weights_do_something(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not math.isfinite(weight) or weight == 0 or abs(weight) > 100:
                raise ValueError(f"the weight of {name} is {weight:g}: use a number between -100 and 100 that is not 0")
        return value

    @field_validator("output")
    @classmethod
    def _output_is_a_name(cls, value: str) -> str:
        return name_or_nothing(value)
