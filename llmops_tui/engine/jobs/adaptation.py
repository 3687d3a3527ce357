"""What of a model is trained, and what is saved of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig

from llmops_tui.data.durable import sync_directory
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.loading import load_causal_model
from llmops_tui.specs.train import TrainSpec

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase


def load_base(_spec: TrainSpec, plan: Plan, directory: Path) -> Any:
    """The causal LM that is adapted."""
    return load_causal_model(directory, plan)


def adapter_config(spec: TrainSpec, task_type: str) -> PeftConfig | None:
    """The adapter that is trained in the model's place; None where the model itself is. `task_type` as PEFT names it."""
    return LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=spec.lora.target_modules,
        task_type=task_type,
    )


def save_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Adapter, base path, tokenizer and chat template, durable before anybody is told."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
