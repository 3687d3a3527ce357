"""What a quantized directory's files really hold: types and bytes by the part of the model they belong to."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import safe_open

from llmops_tui.data.model_files import recognise

_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}  # all others: 8
_AROUND = ("model", "layers", "language_model", "self_attn", "mlp")


def mix_of_directory(directory: Path) -> list[dict[str, str | int]]:
    """For each part and stored type how many tensors there are and their bytes, the largest first; as mixes.describe_mix."""
    rows: dict[tuple[str, str], list[int]] = {}
    for path in recognise(directory).weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                held = file.get_slice(name)
                kind = str(held.get_dtype())
                row = rows.setdefault((part_of(name), kind), [0, 0])
                row[0] += 1
                row[1] += math.prod(held.get_shape()) * _BITS.get(kind, 8) // 8
    found: list[dict[str, str | int]] = [
        {"tensor": part, "type": kind, "count": count, "bytes": size} for (part, kind), (count, size) in rows.items()
    ]
    return sorted(found, key=lambda row: -int(row["bytes"]))


def part_of(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight.absmax` → `up_proj`."""
    pieces = [piece for piece in name.split(".") if piece not in _AROUND and not piece.isdigit()]
    return pieces[0] if pieces else name
