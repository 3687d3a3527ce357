"""How much a run will write, and whether the disk holds it. Pure arithmetic, and one question to the file system."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from llmops_tui.errors import InsufficientResourcesError
from llmops_tui.specs.train import LoraChoice, TrainSpec

# What every run writes: output, events, journal, capsule.
RECORDS_BYTES = 16 << 20
# Beside an adapter in each checkpoint: trainer state, generator state, tokenizer.
_CHECKPOINT_EXTRA_BYTES = 6 << 20
# PEFT's "all-linear" leaves out embeddings and the output layer.
_NOT_ADAPTED = re.compile(r"embed|lm_head|wte|wpe|norm|\.lora_|score", re.IGNORECASE)


def adapted_matrices(matrices: Mapping[str, tuple[int, int]], lora: LoraChoice) -> list[tuple[int, int]]:
    """Shapes of the weights that get an adapter; a `target_modules` list names the last part of their module's name."""
    if isinstance(lora.target_modules, str) and lora.target_modules != "all-linear":
        return [shape for name, shape in matrices.items() if re.fullmatch(lora.target_modules, name.removesuffix(".weight"))]
    wanted = None if isinstance(lora.target_modules, str) else tuple(lora.target_modules)
    found = []
    for name, shape in matrices.items():
        module = name.removesuffix(".weight")
        if (not _NOT_ADAPTED.search(module)) if wanted is None else any(module == end or module.endswith(f".{end}") for end in wanted):
            found.append(shape)
    return found


def train_bytes(spec: TrainSpec, shapes: list[tuple[int, int]], parameters: int = 0) -> int:
    """What a run writes that trains adapters of these matrices; where it trains the whole model, all its `parameters`."""
    if spec.adaptation == "full":
        begun = 4 * parameters if spec.scratch.preset else 0  # the model from scratch is kept as it began
        return checkpoint_bytes(spec, parameters, 4 * parameters) + begun
    magnitudes = sum(rows for rows, _ in shapes) if spec.adaptation == "dora" else 0
    return checkpoint_bytes(spec, spec.lora.r * sum(rows + columns for rows, columns in shapes) + magnitudes)


def checkpoint_bytes(spec: TrainSpec, trained: int, model_bytes: int = 0) -> int:
    """Checkpoints (what is trained and Adam's two moments in float32; one more than kept while the newest is written), the result, records.

    `trained` counts the parameters; `model_bytes` is what a whole model saves as, 0 for an adapter.
    """
    saved = model_bytes or 4 * trained
    checkpoint = saved + 8 * trained + _CHECKPOINT_EXTRA_BYTES
    kept = spec.keep_checkpoints + spec.keep.best
    return (kept + 1) * checkpoint + saved + _CHECKPOINT_EXTRA_BYTES + RECORDS_BYTES


def free_bytes(path: Path) -> int:
    """Free space of the file system that `path` is or will be on."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def require_disk(path: Path, needed: int, keep_free: int, advice: str) -> int:
    """The free bytes; raises InsufficientResourcesError where `needed` would leave less than `keep_free`."""
    free = free_bytes(path)
    if free - needed < keep_free:
        raise InsufficientResourcesError(
            f"not enough disk: {path} has {_human(free)} free, the run writes {_human(needed)}, and {_human(keep_free)} must stay free",
            f"free {_human(needed + keep_free - free)}, {advice}",
        )
    return free


def _human(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
