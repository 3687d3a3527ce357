"""The parts of a train spec for learning from judged answers: dpo, kto and orpo, and reward models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops_tui.specs.common import StrictModel

# Which losses each method has; the first is what `auto` means.
LOSSES: dict[str, tuple[str, ...]] = {
    "dpo": ("sigmoid", "ipo", "hinge", "robust", "apo_zero", "sigmoid_norm"),
    "kto": ("kto", "apo_zero_unpaired"),
    "orpo": ("orpo",),
}


class PreferenceChoice(StrictModel):
    """How preferences are learnt (methods dpo, kto and orpo)."""

    beta: float = Field(
        0.1, gt=0, le=100, description="dpo, kto: how strongly the model is held to the one it began as; orpo: weight of the odds ratio"
    )
    loss: Literal["auto", "sigmoid", "ipo", "hinge", "robust", "apo_zero", "sigmoid_norm", "kto", "apo_zero_unpaired", "orpo"] = Field(
        "auto", description="auto: sigmoid for dpo (arXiv:2305.18290), kto for kto (arXiv:2402.01306)"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="dpo: share of the pairs that may be the wrong way round")
    good_weight: float = Field(1.0, gt=0, le=1000, description="kto: weight of the good answers in the loss")
    bad_weight: float = Field(1.0, gt=0, le=1000, description="kto: weight of the bad answers in the loss")


class RewardChoice(StrictModel):
    """How a reward model is trained (method reward)."""

    center: float = Field(0.01, ge=0, le=10, description="Holds rewards around zero by this coefficient (arXiv:2312.09244); 0: off")


def objection_to(method: str, preference: PreferenceChoice, micro_batch: int) -> str:
    """What of the wish the method cannot do, as `field: reason`; empty where nothing is wrong."""
    losses = LOSSES.get(method)
    if losses and preference.loss not in ("auto", *losses):
        return f"preference.loss: {preference.loss} is no loss of {method}; use auto or one of: {', '.join(losses)}"
    if losses and preference.label_smoothing and (method != "dpo" or preference.loss not in ("auto", "sigmoid", "robust")):
        return "preference.label_smoothing: only dpo with the loss sigmoid or robust has it; set it to 0"
    if method == "kto" and micro_batch < 2 and preference.loss != "apo_zero_unpaired":
        return "micro_batch: kto compares the answers of a pass with one another and needs at least 2"
    return ""
