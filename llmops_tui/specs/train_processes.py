"""How many processes train one model together."""

from __future__ import annotations

from pydantic import Field

from llmops_tui.specs.common import StrictModel

# Methods whose loss is the same over several processes as over one.
SHARED = ("sft", "pretrain", "dpo")


class ProcessesChoice(StrictModel):
    """Each holds the whole model and learns from its share of every update; gradients are averaged (DDP)."""

    count: int = Field(1, ge=1, le=64, description="Processes, a GPU each; an update learns from count x micro_batch x accumulation rows")


def objection_to_processes(choice: ProcessesChoice, method: str, scratch: bool, gpus: int | str) -> str:
    """Why that many processes cannot do what is asked; empty where they can."""
    if choice.count == 1:
        return ""
    if method not in SHARED:
        return f"processes.count: {method} trains in one process; several do {', '.join(SHARED)}"
    if scratch:
        return "processes.count: a model from scratch begins in one process; train the result further with several"
    if gpus not in (0, choice.count):
        return f"resources.gpus: {choice.count} processes take {choice.count} GPUs, or 0 to train on the CPU, and it says {gpus}"
    return ""
