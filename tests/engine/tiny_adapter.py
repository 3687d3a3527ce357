"""Adapters for the tiny model, with weights that do something, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine.tiny_model import make_model, make_tokenizer


def save_base(directory: Path, *, seed: int = 0) -> Path:
    """The tiny model in bfloat16, as most published ones are."""
    import torch

    make_model(seed).to(torch.bfloat16).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def save_adapter(directory: Path, base: Path, *, seed: int = 1, rank: int = 4, strength: float = 0.2, **options: Any) -> Path:
    """A LoRA adapter of `base` on all linear layers, both matrices random."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM", **options),
    )
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=strength)
    model.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory
