"""Training that goes on from an adapter: what the adapter says takes the place of what the spec says of one. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# pydantic refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from llmops_tui.specs.train import TrainSpec


class Continued(TypedDict):
    """The adapter as its adapter_config.json has it; `adaptation` as in a spec (qlora where the spec asks for a 4-bit base)."""

    path: str
    adaptation: str
    r: int
    alpha: int
    dropout: float
    target_modules: str | list[str]


def following(spec: TrainSpec, continued: Mapping[str, Any] | None) -> TrainSpec:
    """The spec with the adapter's own kind, rank, scale, dropout and modules; the same where it goes on from no adapter."""
    if continued is None:
        return spec
    told = {key: continued[key] for key in ("r", "alpha", "dropout", "target_modules")}
    return spec.model_copy(update={"adaptation": continued["adaptation"], "lora": spec.lora.model_copy(update=told)})
