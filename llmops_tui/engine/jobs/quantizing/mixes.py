"""Which type each tensor of a GGUF file gets: llama.cpp's own rules. Pure.

Source: llama.cpp src/llama-quant.cpp (`tensor_allows_quantization`, `llama_tensor_get_type_impl`, `tensor_type_fallback`).
A K_M mix gives attn_v and ffn_down more bits in some layers, the output matrix (or the embedding that stands in for it)
Q6_K, and a tensor whose rows a type's blocks do not divide a type of smaller blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Weights a block.
BLOCK: Mapping[str, int] = {"F32": 1, "F16": 1, "Q8_0": 32, "Q5_0": 32, "Q5_1": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}
_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "Q8_0": 34, "Q5_0": 22, "Q5_1": 24, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
_FALLBACK: Mapping[str, str] = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_USUAL: Mapping[str, str] = {"F16": "F16", "Q8_0": "Q8_0", "Q6_K": "Q6_K", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K"}
# general.file_type, llama.cpp's llama_ftype.
FILE_TYPE: Mapping[str, int] = {"F16": 1, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q4_K_M": 15}
# Parts of names that keep their precision: they are small, or choose experts.
_KEPT = ("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", "position_embd", "token_types", "attn_rel_b.weight")


@dataclass(frozen=True)
class Facts:
    """What the choice depends on beside the tensor itself. `tied`: the file has no output.weight."""

    layers: int
    tied: bool
    heads: int = 0
    key_heads: int = 0
    experts: int = 0


@dataclass(frozen=True)
class Part:
    """One tensor in the file: `shape` as numpy has it (the last is the row's length)."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def elements(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def bytes(self) -> int:
        return self.elements // BLOCK[self.type] * _BYTES[self.type]


def choose_type(name: str, shape: Sequence[int], wanted: str, facts: Facts) -> str:
    """The type of one tensor in a file of the type `wanted` (one of FILE_TYPE)."""
    if not may_be_quantized(name, shape):
        return "F32"
    usual = _USUAL[wanted]
    if usual == "F16":
        return usual
    chosen = _by_rule(name, shape[-1], wanted, usual, facts)
    if shape[-1] % BLOCK[chosen]:
        chosen = _FALLBACK.get(chosen, "F16")
    return "F16" if shape[-1] % BLOCK[chosen] else chosen


def may_be_quantized(name: str, shape: Sequence[int]) -> bool:
    """Matrices named weight (and an adapter's two for each) that are neither norms nor routers; everything else stays in float32."""
    return len(shape) >= 2 and name.endswith(("weight", ".lora_a", ".lora_b")) and not any(part in name for part in _KEPT)


def more_bits(layer: int, layers: int) -> bool:
    """The layers to whose attn_v and ffn_down a K_M mix gives more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _by_rule(name: str, columns: int, wanted: str, usual: str, facts: Facts) -> str:
    if name == "output.weight" or (facts.tied and name == "token_embd.weight"):
        return "Q8_0" if columns % BLOCK[usual] or usual == "Q8_0" else "Q6_K"
    mixed = wanted in ("Q4_K_M", "Q5_K_M")
    if "attn_v.weight" in name:
        chosen = "Q6_K" if mixed and more_bits(_layer(name), facts.layers) else usual
        if facts.layers == 80 and facts.heads != facts.key_heads and chosen == "Q4_K":
            chosen = "Q5_K"  # a 70B: eight heads share it, more bits cost next to nothing
        return "Q8_0" if facts.experts == 8 else chosen
    if "attn_k.weight" in name and facts.experts == 8:
        return "Q8_0"
    if "attn_qkv.weight" in name and mixed:
        return "Q5_K" if wanted == "Q4_K_M" else "Q6_K"
    if "ffn_down" in name and mixed and more_bits(_layer(name), facts.layers):
        return "Q6_K"
    if "attn_output.weight" in name and facts.experts == 8 and wanted == "Q4_K_M":
        return "Q5_K"
    return usual


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blk" and parts[1].isdigit() else 0


def describe_mix(parts: Iterable[Part]) -> list[dict[str, str | int]]:
    """The mix as a table: for each kind of tensor and type, how many there are and their bytes; the largest first."""
    found: dict[tuple[str, str], list[int]] = {}
    for part in parts:
        pieces = part.name.split(".")
        kind = pieces[2] if pieces[0] == "blk" and len(pieces) > 3 else pieces[0]
        row = found.setdefault((kind, part.type), [0, 0])
        row[0] += 1
        row[1] += part.bytes
    rows: list[dict[str, str | int]] = [
        {"tensor": kind, "type": quant, "count": count, "bytes": size} for (kind, quant), (count, size) in found.items()
    ]
    return sorted(rows, key=lambda row: -int(row["bytes"]))
