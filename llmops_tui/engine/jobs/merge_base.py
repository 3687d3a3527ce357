"""The base an adapter is merged into: in full precision, also where it lies quantized or was quantized while training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.loading import load_causal_model

Quantized = Literal["", "stored", "trained"]


def load_merge_base(directory: Path, plan: Plan, quantized: Quantized) -> Any:
    """The base as the adapter saw it. `stored`: its files are quantized; `trained`: they are not, but qlora quantized them in memory.

    QLoRA's adapter makes up for the rounding of its base (Dettmers et al. 2023, arXiv:2305.14314), so the rounded weights,
    not the original ones, are what it belongs to.
    """
    if not quantized:
        return load_causal_model(directory, plan)
    options: dict[str, Any] = {}
    if quantized == "trained":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=plan.dtype
        )
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=plan.dtype, attn_implementation="sdpa", device_map={"": plan.device}, **options
    )
    return model.dequantize().to(plan.dtype)
