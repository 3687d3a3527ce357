"""What `merge` needs before it starts: an adapter and its base, rows to compare on, and room for a whole model.

`prepared`: `adapter`, `base` (as `model` of train), `adapter_tokenizer` (whether the adapter brings its own), `quantized`
(`""`, `stored` or `trained`, see jobs/merge_base.py), `verify` (jobs/verification_rows.py) and `warnings`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import recognise
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.preflight_checks import (
    base_of,
    check_model_for_rows,
    described,
    field_error,
    model_info,
    model_record,
    require_packages,
)
from llmops_tui.engine.preflight_rows import comparison_rows, run_record
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.merge import MergeSpec

_PACKAGES = ("torch", "transformers", "peft", "safetensors")
_STORED_BYTES = {"float32": 4}
_OTHER_FILES_BYTES = 32 << 20  # tokenizer, template, settings


def prepare_merge(spec: MergeSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    """Check the wish; returns `prepared` and the bytes it will write. Raises UsageError or NotFoundError at a field."""
    require_packages(_PACKAGES)
    info = model_info(home, spec.adapter, cwd, "adapter")
    if info["format"] != "adapter":
        raise field_error("adapter", f"{spec.adapter!r} is {described(info)}, and merging needs an adapter", "name an adapter")
    files = recognise(Path(info["path"]))
    base = base_of(home, info, cwd, "adapter")
    if base["format"] != "full":
        raise field_error("adapter", f"its base {base['path']} is {described(base)}", "merging needs the base as safetensors")
    made_by = run_record(home, info)
    quantized, warnings = _quantized(spec, base, made_by)
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "not installed: bitsandbytes, which reads the quantized base",
            "pip install bitsandbytes into the engine's environment"
            + ("" if quantized == "stored" else ", or set quantized_base=original"),
        )
    verify = comparison_rows(spec.verify, "verify", home, cwd, info, made_by)
    base_files = recognise(Path(base["path"]))
    speaks = files if files.tokenizer else base_files
    check_model_for_rows(spec.adapter, speaks, verify["dataset"]["format"], "adapter")
    if not info["licence"] and not base["licence"]:
        warnings.append("the licence of the model is not known: set it when importing")
    parameters = base["parameters"] or 2 * base["bytes"]  # packed 4-bit weights: two a byte
    stored = parameters * _STORED_BYTES.get(base["dtype"], 2)
    return {
        "adapter": model_record(home, spec.adapter, info, files, "adapter"),
        "base": model_record(home, base["path"], base, base_files, "adapter"),
        "adapter_tokenizer": files.tokenizer,
        "quantized": quantized,
        "verify": verify,
        "warnings": warnings,
    }, stored + _OTHER_FILES_BYTES + disk_forecast.RECORDS_BYTES


def _quantized(spec: MergeSpec, base: ModelInfo, made_by: dict[str, Any] | None) -> tuple[str, list[str]]:
    """How the base was quantized, and what to know about it."""
    config = json.loads((Path(base["path"]) / "config.json").read_bytes())
    if "quantization_config" in config:
        return "stored", ["the base is quantized: it is dequantized first, and the merged model is as large as an unquantized one"]
    if ((made_by or {}).get("spec") or {}).get("adaptation") != "qlora":
        return "", []
    if spec.quantized_base == "dequantize":
        return "trained", [
            "the adapter was trained with qlora: it is merged into the base as it was then, rounded to 4 bits and dequantized"
        ]
    return "", [
        "the adapter was trained with qlora and is merged into the original base, which it never saw: scores may differ from its run's"
    ]
