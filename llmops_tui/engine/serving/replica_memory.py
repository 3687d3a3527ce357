"""What a replica takes of memory: weights, conversations (the KV cache), and what a pass computes in between. Pure.

A KV cache holds a key and a value for each layer, key head and token: `2 · layers · kv_heads · head_dim · bytes` a token
(GGUF: its own key and value lengths). It is charged whole: llama.cpp and vLLM take it at their start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_tui.data.gguf_header import GgufHeader
from llmops_tui.engine.estimate.shapes import shape_of

# llama.cpp's n_ubatch: tokens a pass, whose activations and logits it keeps room for.
_PASS_TOKENS = 512
# A process with its libraries: xllamacpp's server, torch with transformers, vLLM with its engine core.
_PROCESS_BYTES = {"llamacpp": 80 << 20, "transformers": 900 << 20, "vllm": 2 << 30}
_GPU_PROCESS_BYTES = {"llamacpp": 500 << 20, "transformers": 700 << 20, "vllm": 3 << 30}
_HALF, _FLOAT = 2, 4


@dataclass(frozen=True)
class ModelMemory:
    """What counts of a model. `kv_bytes_per_token` with two bytes an element; None where the model does not say its shape."""

    weights_bytes: int
    parameters: int | None
    kv_bytes_per_token: int | None
    hidden: int
    vocabulary: int

    def to_json(self) -> dict[str, Any]:
        return {
            "weights_bytes": self.weights_bytes, "parameters": self.parameters, "kv_bytes_per_token": self.kv_bytes_per_token,
            "hidden": self.hidden, "vocabulary": self.vocabulary,
        }  # fmt: skip


@dataclass(frozen=True)
class ReplicaMemory:
    """The parts, in bytes."""

    weights: int
    kv: int
    passes: int
    process: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.passes + self.process


def of_gguf(header: GgufHeader, size_bytes: int) -> ModelMemory:
    """From a GGUF file's header and size."""
    name = header.text("general.architecture")

    def number(key: str) -> int | None:
        return header.number(f"{name}.{key}")

    layers, hidden, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    per_token = None
    if layers and hidden and heads:
        kv_heads = number("attention.head_count_kv") or heads
        key = number("attention.key_length") or hidden // heads
        value = number("attention.value_length") or hidden // heads
        per_token = layers * kv_heads * (key + value) * _HALF
    return ModelMemory(size_bytes, header.parameters, per_token, hidden or 0, number("vocab_size") or 0)


def of_config(config: Mapping[str, Any], size_bytes: int, parameters: int | None) -> ModelMemory:
    """From a full model's config.json and the size of its weights."""
    try:
        shape = shape_of(config)
    except ValueError:
        return ModelMemory(size_bytes, parameters, None, 0, 0)
    return ModelMemory(size_bytes, parameters or shape.parameters, shape.layers * 2 * shape.keys * _HALF, shape.hidden, shape.vocabulary)


def replica_memory(model: ModelMemory, runtime: str, context: int, slots: int, *, gpu: bool, dtype: str = "auto") -> ReplicaMemory:
    """What one server takes where its weights lie (on the GPU, or in the host's memory).

    On a CPU transformers keeps weights and conversations in float32 unless told otherwise.
    """
    wide = runtime != "llamacpp" and (dtype == "float32" or (dtype == "auto" and not gpu and runtime == "transformers"))
    weights = model.weights_bytes
    if wide and model.parameters:
        weights = max(weights, model.parameters * _FLOAT)
    kv = (model.kv_bytes_per_token or 0) * context * slots * (2 if wide else 1)
    tokens = min(_PASS_TOKENS, context * slots)
    # Logits in float32 once for each token of a pass (at most one a slot with llama.cpp), activations some dozen times the width.
    logits = (slots if runtime == "llamacpp" else tokens) * model.vocabulary * _FLOAT
    passes = logits + tokens * model.hidden * _FLOAT * 24
    process = (_GPU_PROCESS_BYTES if gpu else _PROCESS_BYTES)[runtime]
    return ReplicaMemory(weights, kv, passes, process)


def most_tokens(model: ModelMemory, runtime: str, slots: int, free_bytes: int, *, gpu: bool, dtype: str = "auto") -> int:
    """The longest context a slot that fits into so much; 0 where not even the weights do."""
    low, high = 0, 1 << 22
    while low < high:
        middle = math.ceil((low + high) / 2)
        if replica_memory(model, runtime, middle, slots, gpu=gpu, dtype=dtype).total <= free_bytes:
            low = middle
        else:
            high = middle - 1
    return low
