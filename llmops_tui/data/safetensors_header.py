"""The header of a safetensors file: shapes and types, never the weights. Standard library only.

Layout: huggingface/safetensors README, "Format": 8 bytes little-endian length, that many bytes of JSON, then the tensors.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

_LONGEST_HEADER_BYTES = 100_000_000
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


@dataclass(frozen=True)
class SafetensorsHeader:
    """Elements by type (`{"bfloat16": 134515008}`), the shapes of matrices by name, and the size the file must have."""

    elements: dict[str, int]
    matrices: dict[str, tuple[int, int]]
    expected_bytes: int


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read the header alone. Raises ValueError for a file that is no safetensors file, OSError."""
    with open(path, "rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise ValueError("is a Git LFS pointer, not the weights: run `git lfs pull` there")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= _LONGEST_HEADER_BYTES:
            raise ValueError("is not a safetensors file")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        elements: dict[str, int] = {}
        matrices: dict[str, tuple[int, int]] = {}
        end = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                kind = _NAMES.get(tensor["dtype"], tensor["dtype"].lower())
                elements[kind] = elements.get(kind, 0) + math.prod(tensor["shape"])
                if len(tensor["shape"]) == 2:
                    matrices[name] = (tensor["shape"][0], tensor["shape"][1])
                end = max(end, tensor["data_offsets"][1])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ValueError("has a broken header: the file is truncated or damaged") from None
    return SafetensorsHeader(elements, matrices, 8 + length + end)
