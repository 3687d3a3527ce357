"""A GGUF file being written: settings, a tensor at a time, and a final name only for what is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import gguf
import numpy as np

from llmops_tui.data.durable import sync_directory
from llmops_tui.engine.jobs.quantizing.ggml_library import GgmlLibrary
from llmops_tui.engine.jobs.quantizing.mixes import FILE_TYPE, Facts, Part, choose_type
from llmops_tui.errors import UsageError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Setting:
    """One key of the header; `element`: the type of an array's items."""

    value: Any
    type: gguf.GGUFValueType
    element: gguf.GGUFValueType | None = None


Settings = dict[str, Setting]


class TensorSource(Protocol):
    """An unquantized model: its header, its tensors' shapes in the file's order, and each tensor's values when asked."""

    settings: Settings
    facts: Facts

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By llama.cpp's names."""
        ...

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Values as float32, in the order of `shapes`. Raises UsageError naming a tensor that cannot be read."""
        ...


def mix_of(shapes: dict[str, tuple[int, ...]], wanted: str, facts: Facts) -> list[Part]:
    """The type of each tensor of a file of the type `wanted`."""
    return [Part(name, shape, choose_type(name, shape, wanted, facts)) for name, shape in shapes.items()]


def write_gguf(source: TensorSource, wanted: str, target: Path, library: GgmlLibrary | None, progress: Progress) -> list[Part]:
    """Write `target` whole or not at all; returns what is in it. `library` may be None for F16.

    Raises UsageError for a tensor that holds a value no type can store, OSError on a full disk.
    """
    parts = mix_of(source.shapes(), wanted, source.facts)
    staging = target.with_name(f".{target.name}.tmp")
    staging.unlink(missing_ok=True)  # of an attempt that was killed
    writer = gguf.GGUFWriter(staging, str(source.settings["general.architecture"].value))
    for name, setting in source.settings.items():
        if name not in ("general.architecture", "general.file_type", "general.quantization_version"):
            writer.add_key_value(name, setting.value, setting.type, sub_type=setting.element)
    if "general.type" not in source.settings or source.settings["general.type"].value == "model":
        writer.add_file_type(FILE_TYPE[wanted])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for part in parts:
        kind = gguf.GGMLQuantizationType[part.type]
        writer.add_tensor_info(part.name, _stored_shape(part, kind), np.dtype(_STORED.get(part.type, np.uint8)), part.bytes, kind)
    try:
        writer.write_header_to_file(staging)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(part.elements for part in parts)
        for part, (name, values) in zip(parts, source.tensors(), strict=True):
            assert part.name == name
            data = _encode(name, values, part, library)
            try:
                writer.write_tensor_data(data)
            except OSError as error:
                _say_why(staging, data.nbytes, error)
            done += part.elements
            progress(done, total)
        writer.close()
        with open(staging, "rb") as file:
            os.fsync(file.fileno())
        staging.rename(target)
    finally:
        staging.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what it still holds has no room either, and that was told
            writer.close()
    sync_directory(target.parent)
    return parts


def _say_why(staging: Path, size: int, error: OSError) -> NoReturn:
    """numpy tells of a write that fell short how many items went in and not why: who asks for the room is told. Raises OSError."""
    if error.errno is None:
        with open(staging, "ab") as file:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), size)
            except OSError as reason:
                raise OSError(reason.errno, reason.strerror, str(staging.parent)) from error
    raise error


_STORED = {"F32": np.float32, "F16": np.float16}


def _stored_shape(part: Part, kind: gguf.GGMLQuantizationType) -> Sequence[int]:
    """The writer wants the shape in bytes for what is no plain number."""
    return part.shape if part.type in _STORED else gguf.quant_shape_to_byte_shape(part.shape, kind)


def _encode(name: str, values: np.ndarray, part: Part, library: GgmlLibrary | None) -> np.ndarray:
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values.reshape(-1))))
        raise UsageError(f"tensor {name}: value {bad} is not a number", "the weights are damaged: bring the model back, or an earlier one")
    if part.type == "F32":
        return values.astype(np.float32, copy=False)
    if part.type == "F16":
        narrow = values.astype(np.float16)
        if not np.isfinite(narrow).all():
            raise UsageError(f"tensor {name}: {np.abs(values).max():.3g} is beyond float16's range", "quantize to Q8_0 instead of F16")
        return narrow
    assert library is not None
    return library.quantize(values, part.type)
