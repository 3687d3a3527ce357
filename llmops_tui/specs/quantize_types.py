"""The forms a model can be quantized to, and what makes each. Standard library only: the TUI imports this."""

from __future__ import annotations

from typing import Literal

QuantType = Literal[
    "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "torchao-int8", "bnb-nf4", "bnb-int8", "gptq-w4a16", "awq-w4a16", "fp8"
]  # fmt: skip

GGUF_TYPES: tuple[str, ...] = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
# Quantized while the source is loaded, and saved as they then are; config.json records how.
ON_LOAD: frozenset[str] = frozenset({"bnb-nf4", "bnb-int8"})
# Made by a quantizer in an environment of its own, from calibration rows.
BY_COMPRESSOR: frozenset[str] = frozenset({"gptq-w4a16", "awq-w4a16", "fp8"})


def slug(quant_type: str) -> str:
    """A type as part of a path or a name: `Q4_K_M` → `q4_k_m`."""
    return quant_type.lower()
