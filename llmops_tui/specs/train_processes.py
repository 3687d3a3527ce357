"""How many processes train one model together, and what each of them holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops_tui.specs.common import StrictModel

# Methods whose loss is the same over several processes as over one.
SHARED = ("sft", "pretrain", "dpo")


class ProcessesChoice(StrictModel):
    """Each learns from its share of every update; gradients are averaged."""

    count: int = Field(1, ge=1, le=64, description="Processes, a GPU each; an update learns from count x micro_batch x accumulation rows")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="ddp: each holds the whole model; fsdp: each holds a part of its weights, gradients and optimizer state"
    )


def objection_to_processes(choice: ProcessesChoice, method: str, adaptation: str, scratch: bool, gpus: int | str) -> str:
    """Why that many processes cannot do what is asked; empty where they can."""
    if choice.count == 1:
        return "processes.strategy: fsdp cuts a model over several processes; raise processes.count" if choice.strategy == "fsdp" else ""
    if method not in SHARED:
        return f"processes.count: {method} trains in one process; several do {', '.join(SHARED)}"
    if scratch:
        return "processes.count: a model from scratch begins in one process; train the result further with several"
    if choice.strategy == "fsdp" and adaptation == "qlora":
        return "processes.strategy: 4-bit weights cannot be cut over processes; use ddp, or adaptation=lora"
    if gpus not in (0, choice.count):
        return f"resources.gpus: {choice.count} processes take {choice.count} GPUs, or 0 to train on the CPU, and it says {gpus}"
    return ""
