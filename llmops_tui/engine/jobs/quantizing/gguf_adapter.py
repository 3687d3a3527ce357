"""A PEFT LoRA adapter as GGUF-LoRA: the pairs of matrices by the names of the weights they change, and one alpha for all.

Follows llama.cpp's convert_lora_to_gguf.py. llama.cpp scales each pair by alpha / rank; where PEFT scales one otherwise (rsLoRA, a
pattern of alphas), the difference goes into its second matrix.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from llmops_tui.engine.jobs.quantizing.architectures import OURS
from llmops_tui.engine.jobs.quantizing.gguf_file import Setting, Settings
from llmops_tui.engine.jobs.quantizing.mixes import Facts
from llmops_tui.engine.jobs.quantizing.safetensors_source import interleave, known_architecture
from llmops_tui.errors import UsageError

_WEIGHTS = "adapter_model.safetensors"
_PAIR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.(?:default\.)?weight")
_STRING, _FLOAT32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.FLOAT32


class AdapterSource:
    """`adapter` and `base`: the directories. Raises UsageError for what llama.cpp has no place for."""

    def __init__(self, adapter: Path, base: Path, name: str, licence: str) -> None:
        self._path = adapter / _WEIGHTS
        self._settings_of_lora: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_bytes())
        config: dict[str, Any] = json.loads((base / "config.json").read_bytes())
        self._architecture = OURS[config["architectures"][0]]
        layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._key_heads = int(config.get("num_key_value_heads") or self._heads)
        self.facts = Facts(layers, tied=False, heads=self._heads, key_heads=self._key_heads)
        self._alpha = float(self._settings_of_lora["lora_alpha"])
        self._found = self._located(layers)
        self.settings: Settings = {
            "general.architecture": Setting(self._architecture.name, _STRING),
            "general.type": Setting("adapter", _STRING),
            "general.name": Setting(name, _STRING),
            **({"general.license": Setting(licence, _STRING)} if licence else {}),
            "adapter.type": Setting("lora", _STRING),
            "adapter.lora.alpha": Setting(self._alpha, _FLOAT32),
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, _, shape) in self._found.items()}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        with _opened(self._path) as file:
            for name, (stored, module, _) in self._found.items():
                values = file.get_tensor(stored).to(torch.float32).numpy()
                yield name, values if name.endswith(".lora_a") else self._second(name, module, values)

    def _second(self, name: str, module: str, values: np.ndarray) -> np.ndarray:
        values = values * np.float32(scale_of(self._settings_of_lora, module, values.shape[1]) / (self._alpha / values.shape[1]))
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if not self._architecture.interleaved or part not in ("attn_q", "attn_k"):
            return values
        return interleave(values, self._heads if part == "attn_q" else self._key_heads)

    def _located(self, layers: int) -> dict[str, tuple[str, str, tuple[int, ...]]]:
        """Each tensor's name in the file, the module it belongs to and its shape, by llama.cpp's name."""
        names = gguf.get_tensor_name_map(known_architecture(self._architecture.name), layers)
        found = {}
        with _opened(self._path) as file:
            for stored in sorted(file.keys()):
                pair = _PAIR.fullmatch(stored)
                name = names.get_name(f"{pair[1]}.weight", try_suffixes=(".weight",)) if pair else None
                if pair is None or name is None:
                    raise UsageError(f"tensor {stored} of the adapter: a GGUF-LoRA has no place for it", "merge it first: run merge")
                shape = tuple(file.get_slice(stored).get_shape())
                found[f"{name}.lora_{pair[2].lower()}"] = (stored, pair[1], shape)
        return found


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """By what PEFT multiplies B·A of a module (peft 0.21, LoraLayer.update_layer)."""
    alpha = float(
        next((value for pattern, value in (config.get("alpha_pattern") or {}).items() if _means(pattern, module)), config["lora_alpha"])
    )
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _means(pattern: str, module: str) -> bool:
    """PEFT's patterns are regular expressions that match the end of a module's name."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "bring the adapter's files back") from error
