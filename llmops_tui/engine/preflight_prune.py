"""What `prune` needs before it starts: a full model of enough layers, rows to measure and to score on, and room for the result.

`prepared`: `model`, `dataset`, `eval_dataset`, `rows` and `warnings`, as of train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import recognise
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.preflight_checks import (
    check_model_for_rows,
    dataset_record,
    described,
    eval_dataset_record,
    field_error,
    licence_warnings,
    matrices,
    model_info,
    model_record,
    require_context,
    require_packages,
    row_warnings,
    split,
)
from llmops_tui.paths import Home
from llmops_tui.specs.prune import PruneSpec

_PACKAGES = ("torch", "transformers", "peft", "safetensors")
_OTHER_FILES_BYTES = 32 << 20  # tokenizer, template, settings


def prepare_prune(spec: PruneSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    """Check the wish; returns `prepared` and the bytes it will write. Raises UsageError or NotFoundError at a field."""
    require_packages(_PACKAGES)
    info = model_info(home, spec.model, cwd)
    if info["format"] != "full":
        raise field_error(
            "model", f"{spec.model!r} is {described(info)}, and pruning needs a full model",
            "merge it first: llmops-tui run merge" if info["format"] == "adapter" else "name the safetensors directory it was made from",
        )  # fmt: skip
    files = recognise(Path(info["path"]))
    if "quantization_config" in files.config:
        raise field_error("model", f"{spec.model!r} is quantized", "prune the model it was quantized from")
    _check_layers(spec, files.config)
    if spec.pattern == "2:4" and (odd := [name for name, shape in matrices(files).items() if shape[1] % 4 and "layers" in name]):
        raise field_error("pattern", f"{odd[0]} has rows of a length that four does not divide", "use pattern=none")
    dataset, found = dataset_record(home, "dataset.path", spec.dataset.path, spec.dataset.format, cwd)
    eval_dataset, eval_found = eval_dataset_record(home, spec.dataset, cwd)
    learnt, held_out = split(spec.dataset, found, eval_found, spec.seed)
    if not held_out:
        raise field_error("dataset.eval_fraction", "nothing is held out to score", "set dataset.eval_fraction or dataset.eval_path")
    if not learnt:
        raise field_error("dataset", f"{found.rows} rows leave none to measure on", "add rows, or lower eval_fraction or raise limit")
    check_model_for_rows(spec.model, files, found.format)
    require_context(spec.max_length, files, found)
    return {
        "model": model_record(home, spec.model, info, files),
        "dataset": dataset,
        "eval_dataset": eval_dataset,
        "rows": {"learnt": len(learnt), "held_out": len(held_out)},
        "warnings": [
            *row_warnings(spec.max_length, files, found, eval_found, learnt, held_out),
            *licence_warnings(info, dataset),
        ],
    }, info["bytes"] + _OTHER_FILES_BYTES + disk_forecast.RECORDS_BYTES + _checkpoint_bytes(spec, info["parameters"] or 0)


def _checkpoint_bytes(spec: PruneSpec, parameters: int) -> int:
    """The newest checkpoint of healing, and the next while it is written: weights, two moments, and which weights stay."""
    return 2 * 13 * parameters if spec.heal.steps and spec.heal.checkpoint_every else 0


def _check_layers(spec: PruneSpec, config: dict[str, Any]) -> None:
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    count = (text or {}).get("num_hidden_layers")
    if not isinstance(count, int):
        raise field_error("model", "its config.json names no num_hidden_layers", "prune a model of a plain decoder architecture")
    if spec.method == "layers" and (gone := spec.layers_of(count)) >= count:
        raise field_error(
            "layers" if spec.layers else "sparsity", f"{gone} of {count} layers would go", f"leave at least one: at most {count - 1}"
        )
