"""The header of a GGUF file: metadata and tensor sizes, never the weights. Standard library only.

Layout: ggml-org/ggml, docs/gguf.md (versions 2 and 3, little endian). Block sizes: gguf 0.19 `GGML_QUANT_SIZES`.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"GGUF"

# ggml type -> name, weights a block, bytes a block
_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
# general.file_type (llama.cpp's llama_ftype) where it says more than the commonest tensor type.
_FILE_TYPES = {
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 21: "Q2_K_S", 27: "IQ3_M",
}  # fmt: skip
# metadata value type -> struct format of a scalar; 8 is a string, 9 an array
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

Value = str | int | float | bool


@dataclass(frozen=True)
class GgufHeader:
    """What the header tells; `expected_bytes` is the size the file must have at least, `shapes` are as ggml has them: columns first."""

    metadata: dict[str, Value]
    parameters: int
    quantization: str
    expected_bytes: int
    shapes: dict[str, tuple[int, ...]]

    def text(self, key: str) -> str:
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) else None


def is_gguf(path: Path) -> bool:
    """Whether the file begins with the magic bytes. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header alone. Raises ValueError for a file that is no GGUF or ends within its header, OSError."""
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError("does not begin with GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                return _Reader(view).header()
            except (struct.error, IndexError, UnicodeDecodeError):
                raise ValueError("ends or breaks within its header: the file is truncated or damaged") from None


class _Reader:
    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._at = 4

    def header(self) -> GgufHeader:
        version = self._scalar("<I")
        if version not in (2, 3):
            raise ValueError(f"is GGUF version {version}, which this version does not read")
        tensors, pairs = self._scalar("<Q"), self._scalar("<Q")
        metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key = self._string()
            value = self._value(self._scalar("<I"))
            if value is not None:
                metadata[key] = value
        parameters, end, mix = 0, 0, dict[str, int]()
        shapes: dict[str, tuple[int, ...]] = {}
        for _ in range(tensors):
            tensor = self._string()
            shape = shapes[tensor] = tuple(self._scalar("<Q") for _ in range(self._scalar("<I")))
            weights = math.prod(shape)
            kind, offset = self._scalar("<I"), self._scalar("<Q")
            name, per_block, block_bytes = _TYPES.get(kind, (f"type {kind}", 1, 0))
            size = weights // per_block * block_bytes
            parameters += weights
            end = max(end, offset + size)
            mix[name] = mix.get(name, 0) + weights
        alignment = metadata.get("general.alignment", 32)
        step = alignment if isinstance(alignment, int) and alignment > 0 else 32
        start = -(-self._at // step) * step
        commonest = max(mix, key=lambda name: mix[name], default="")
        file_type = metadata.get("general.file_type")
        quantization = _FILE_TYPES.get(file_type, commonest) if isinstance(file_type, int) else commonest
        return GgufHeader(metadata, parameters, quantization, start + end, shapes)

    def _scalar(self, layout: str) -> int:
        value: int = struct.unpack_from(layout, self._view, self._at)[0]
        self._at += struct.calcsize(layout)
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        if length > len(self._view) - self._at:
            raise IndexError
        self._at += length
        return self._view[self._at - length : self._at].decode()

    def _value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        if kind not in _SCALARS:
            raise IndexError
        return self._scalar(_SCALARS[kind])

    def _skip_array(self) -> None:
        """Vocabularies are arrays of a hundred thousand strings: stepped over, never decoded."""
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind == _STRING:
            length_at, at = struct.Struct("<Q").unpack_from, self._at
            for _ in range(count):
                at += 8 + length_at(self._view, at)[0]
            self._at = at
        elif kind in _SCALARS:
            self._at += count * struct.calcsize(_SCALARS[kind])
        else:
            raise IndexError
        if self._at > len(self._view):
            raise IndexError
