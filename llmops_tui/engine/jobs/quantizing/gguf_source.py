"""An unquantized GGUF file (F32, F16 or BF16: the converter's, or one that was imported) as a source of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from llmops_tui.engine.jobs.quantizing.gguf_file import Setting, Settings
from llmops_tui.engine.jobs.quantizing.mixes import Facts
from llmops_tui.errors import UsageError

_PLAIN = ("F32", "F16", "BF16")
# The reader's own view of the file's first bytes, no settings of the model.
_OF_THE_FILE = "GGUF."


class GgufSource:
    """Raises UsageError for a file that is quantized already or broken."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = gguf.GGUFReader(path)
            self.settings: Settings = {name: _setting(field) for name, field in self._reader.fields.items() if _of_the_model(name)}
        except (ValueError, IndexError, KeyError, OverflowError) as error:
            raise UsageError(f"{path} is a broken GGUF file: {error}", "make or download it again") from error
        quantized = [tensor for tensor in self._reader.tensors if tensor.tensor_type.name not in _PLAIN]
        if quantized:
            raise UsageError(
                f"tensor {quantized[0].name} of {path.name} is {quantized[0].tensor_type.name} already: a second rounding would add to it",
                "quantize the safetensors model or an F16 file of it",
            )
        names = {tensor.name for tensor in self._reader.tensors}
        architecture = self.settings["general.architecture"].value
        self.facts = Facts(
            layers=self._number(f"{architecture}.block_count"),
            tied="output.weight" not in names,
            heads=self._number(f"{architecture}.attention.head_count"),
            key_heads=self._number(f"{architecture}.attention.head_count_kv"),
            experts=self._number(f"{architecture}.expert_count"),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {tensor.name: tuple(int(length) for length in reversed(tensor.shape)) for tensor in self._reader.tensors}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        for tensor in self._reader.tensors:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            yield tensor.name, values.reshape([int(length) for length in reversed(tensor.shape)])

    def _number(self, key: str) -> int:
        value = self.settings[key].value if key in self.settings else 0
        return value if isinstance(value, int) else 0


def _of_the_model(name: str) -> bool:
    return not name.startswith(_OF_THE_FILE)


def _setting(field: gguf.ReaderField) -> Setting:
    """An array has its own type first, then its items'."""
    return Setting(field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
