"""Everything a run needs is checked before anything is started; what was found is kept with the run as `prepared`.

`prepared` of train and evaluate: `model` and `dataset` (absolute paths, formats, digests), `eval_dataset` where there is one, `rows`
(`{"learnt", "held_out"}`), `disk_bytes` (the forecast), `disk_free_bytes`, `warnings`. Of command: `program` and `cwd` in their place.
Blocking (it reads the data): call it in a thread.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_tui.data import datasets, models
from llmops_tui.data.hashing import HashCache
from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.data.safetensors_header import read_safetensors_header
from llmops_tui.data.scan import Scan, scan
from llmops_tui.data.split import held_out_file_rows, split_rows
from llmops_tui.engine import disk_forecast
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.command import CommandSpec
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import DatasetChoice, TrainSpec

_TRAINING_PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl", "datasets")
_SCORING_PACKAGES = ("torch", "transformers", "peft")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# English text; other scripts have fewer characters a token, so a warning may come late but is not false.
_CHARACTERS_A_TOKEN = 4
_FEW_LEARNT_ROWS = 50
_FEW_HELD_OUT_ROWS = 20


def prepare(spec: RunSpec, home: Home, settings: Settings, cwd: str | Path) -> dict[str, Any]:
    """Check the wish against this box. `cwd` is the submitter's directory: relative paths in the spec start there.

    Raises UsageError or NotFoundError naming the field, InsufficientResourcesError where the disk forecast does not fit.
    """
    cwd = Path(cwd)
    _check_environment(spec.env)
    prepared: dict[str, Any]
    if isinstance(spec, TrainSpec):
        prepared, forecast = _prepare_train(spec, home, cwd)
        advice = "lower keep_checkpoints or lora.r, or set engine.refuse_start_free_bytes"
    elif isinstance(spec, EvaluateSpec):
        prepared, forecast = _prepare_evaluate(spec, home, cwd), disk_forecast.RECORDS_BYTES
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, CommandSpec):
        prepared, forecast = _prepare_command(spec, cwd), 0
        advice = "lower resources.disk_bytes, or set engine.refuse_start_free_bytes"
    else:
        raise UsageError(f"job kind {spec.kind!r} has no checks", "use one of: train, evaluate, command")
    needed = spec.resources.disk_bytes if spec.resources.disk_bytes is not None else forecast
    free = disk_forecast.require_disk(home.root, needed, settings.engine.refuse_start_free_bytes, advice)
    return {**prepared, "disk_bytes": needed, "disk_free_bytes": free}


def _prepare_train(spec: TrainSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    _require_packages(_TRAINING_PACKAGES)
    info = _model_info(home, spec.model, cwd)
    if info["format"] != "full":
        raise _field_error("model", f"{spec.model!r} is {_described(info)}, and training starts from a full model", _train_from(info))
    files = recognise(Path(info["path"]))
    shapes = disk_forecast.adapted_matrices(_matrices(files), spec.lora)
    if not shapes:
        raise _field_error("lora.target_modules", f"{spec.lora.target_modules!r} names no weight of {spec.model!r}", "try all-linear")
    for number, prompt in enumerate(spec.sample_prompts):
        if not prompt.strip():
            raise _field_error(f"sample_prompts.{number}", "is empty", "write a prompt, or leave the list out")
    dataset, found = _dataset(home, "dataset.path", spec.dataset.path, spec.dataset.format, cwd)
    eval_dataset, eval_found = _eval_dataset(home, spec.dataset, cwd)
    learnt, held_out = _split(spec.dataset, found, eval_found, spec.seed)
    if not learnt:
        raise _field_error("dataset", f"{found.rows} rows leave none to learn from", "add rows, or lower eval_fraction or raise limit")
    _check_model_for_rows(spec.model, files, found.format)
    warnings = [
        *_row_warnings(spec.max_length, files, found, eval_found, learnt, held_out),
        *([f"only {len(learnt)} rows to learn from: the model will repeat them"] if len(learnt) < _FEW_LEARNT_ROWS else []),
        *_licence_warnings(info, dataset),
    ]
    return {
        "model": _model(home, spec.model, info, files),
        "dataset": dataset,
        "eval_dataset": eval_dataset,
        "rows": {"learnt": len(learnt), "held_out": len(held_out)},
        "warnings": warnings,
    }, disk_forecast.train_bytes(spec, shapes)


def _prepare_evaluate(spec: EvaluateSpec, home: Home, cwd: Path) -> dict[str, Any]:
    _require_packages(_SCORING_PACKAGES)
    info = _model_info(home, spec.model, cwd)
    if info["format"] == "gguf":
        raise _field_error("model", f"{spec.model!r} is {_described(info)}, which this version cannot score", _train_from(info))
    files = recognise(Path(info["path"]))
    model = _model(home, spec.model, info, files)
    if info["format"] == "adapter":
        # The adapter's own tokenizer is the one it was trained with.
        model["base_path"] = _base_of(home, info, cwd)["path"]
    dataset, found = _dataset(home, "dataset.path", spec.dataset.path, spec.dataset.format, cwd)
    eval_dataset, eval_found = _eval_dataset(home, spec.dataset, cwd)
    learnt, held_out = _split(spec.dataset, found, eval_found, spec.seed)
    if spec.split == "held_out" and not held_out:
        raise _field_error("dataset.eval_fraction", "nothing is held out to score", "set dataset.eval_fraction or eval_path, or split=all")
    _check_model_for_rows(spec.model, files, found.format)
    warnings = _row_warnings(spec.max_length, files, found, eval_found, learnt, held_out)
    rows = {"learnt": len(learnt), "held_out": len(held_out)}
    return {"model": model, "dataset": dataset, "eval_dataset": eval_dataset, "rows": rows, "warnings": warnings}


def _prepare_command(spec: CommandSpec, cwd: Path) -> dict[str, Any]:
    directory = Path(os.path.abspath(cwd / Path(spec.cwd).expanduser()))
    if not directory.is_dir():
        raise _missing("cwd", f"{directory}: no such directory", "name the directory the program is to run in")
    if not os.access(directory, os.X_OK):
        raise _field_error("cwd", f"{directory} may not be entered", "name a directory that is open to you")
    program = spec.argv[0]
    search = spec.env.get("PATH", os.environ.get("PATH", os.defpath))
    found = shutil.which(directory / program) if "/" in program else shutil.which(program, path=search)
    if found is None:
        there = "/" in program and (directory / program).exists()
        reason = "is not an executable file" if there else "no such program"
        raise _missing("argv.0", f"{program}: {reason}", f"chmod +x {program}" if there else "check the name, or give its full path")
    return {"program": os.path.abspath(found), "cwd": str(directory), "warnings": []}


def _check_environment(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise _field_error(
                "env", f"{name!r} cannot be an environment variable", "use letters, digits and _, without a NUL in the value"
            )
        if name.startswith("LLMOPS_"):
            raise _field_error(f"env.{name}", "is set by the engine for every job", "choose another name")


def _require_packages(names: Sequence[str]) -> None:
    """Found without importing: torch alone costs seconds and hundreds of megabytes."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"not installed: {', '.join(missing)}", "pip install 'llmops-tui[train]' into the engine's environment")


def _model_info(home: Home, ref: str, cwd: Path) -> ModelInfo:
    try:
        return models.resolve(home, ref, cwd)
    except NotFoundError as error:
        raise NotFoundError(error.message, error.next_step, [{"field": "model", "message": error.message}]) from None


def _model(home: Home, ref: str, info: ModelInfo, files: ModelFiles) -> dict[str, Any]:
    sha256 = models.model_digest(home, Path(info["path"]))
    if info["sha256"] and info["sha256"] != sha256:
        raise _field_error("model", f"{info['path']} changed since {ref!r} was registered", "import it again for a new version")
    kept = ("name", "version", "path", "format", "architecture", "parameters", "dtype", "bytes", "licence", "base")
    described = {key: value for key, value in info.items() if key in kept}
    return {"ref": ref, **described, "sha256": sha256, "chat_template": files.chat_template}


def _matrices(files: ModelFiles) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for path in files.weights:
        found.update(read_safetensors_header(path).matrices)
    return found


def _check_model_for_rows(ref: str, files: ModelFiles, row_format: str) -> None:
    if not files.tokenizer:
        raise _field_error("model", f"{ref!r} has no tokenizer: {files.path}", "copy its base's tokenizer files beside the weights")
    if row_format != "text" and not files.chat_template:
        raise _field_error(
            "model",
            f"{ref!r} has no chat template, and the rows are conversations ({row_format})",
            "add chat_template.jinja from its instruct version, or use rows of the format text",
        )


def _base_of(home: Home, adapter: ModelInfo, cwd: Path) -> ModelInfo:
    if not adapter["base"]:
        raise _field_error(
            "model", f"the adapter {adapter['path']} does not name its base", "set base_model_name_or_path in adapter_config.json"
        )
    try:
        return models.resolve(home, adapter["base"], cwd)
    except NotFoundError as error:
        raise NotFoundError(
            f"the adapter's base is missing: {error.message}", "bring it to this box, or import it under that name"
        ) from None


def _dataset(home: Home, field: str, ref: str, row_format: str, cwd: Path) -> tuple[dict[str, Any], Scan]:
    try:
        located = datasets.resolve(home, ref, cwd)
        found = scan(located.path, located.format if row_format == "auto" else row_format)
        found.require_good()
    except NotFoundError as error:
        raise _missing(field, error.message, error.next_step) from None
    info = located.info
    return {
        "ref": ref, "name": info["name"] if info else located.path.name, "version": info["version"] if info else None,
        "path": str(located.path), "format": found.format,
        "why": "as registered" if info and row_format == "auto" else found.why, "rows": found.rows, "bytes": found.size_bytes,
        "mtime_ns": found.mtime_ns, "sha256": HashCache(home.cache).file(located.path), "licence": info["licence"] if info else "",
    }, found  # fmt: skip


def _eval_dataset(home: Home, choice: DatasetChoice, cwd: Path) -> tuple[dict[str, Any] | None, Scan | None]:
    if not choice.eval_path:
        return None, None
    # The two files may have different formats; one the user set holds for both.
    return _dataset(home, "dataset.eval_path", choice.eval_path, choice.format, cwd)


def _split(choice: DatasetChoice, found: Scan, eval_found: Scan | None, seed: int) -> tuple[list[int], list[int]]:
    learnt, held_out = split_rows(found.rows, choice, seed, found.keys)
    if eval_found is not None:
        return learnt, held_out_file_rows(eval_found.rows, choice, seed)
    if choice.eval_fraction and not held_out:
        raise _field_error(
            "dataset", f"{found.rows} rows (equal ones counted once) are too few to hold one out", "add rows, or eval_fraction=0"
        )
    return learnt, held_out


def _row_warnings(
    max_length: int, files: ModelFiles, found: Scan, eval_found: Scan | None, learnt: Sequence[int], held_out: Sequence[int]
) -> list[str]:
    warnings = []
    long = sum(count > max_length * _CHARACTERS_A_TOKEN for count in found.characters)
    if long:
        warnings.append(f"about {long:,} of {found.rows:,} rows are longer than max_length ({max_length} tokens) and will be cut")
    if files.context_length and max_length > files.context_length:
        warnings.append(f"max_length {max_length} is beyond the model's context of {files.context_length} tokens")
    if twice := found.rows - len(set(found.keys)):
        warnings.append(f"{twice:,} of {found.rows:,} rows repeat another row")
    if eval_found is not None and (shared := len(set(eval_found.keys) & {found.keys[index] for index in learnt})):
        warnings.append(f"{shared:,} rows of eval_path are also learnt from: the held-out loss will be too good")
    if 0 < len(held_out) < _FEW_HELD_OUT_ROWS:
        warnings.append(f"only {len(held_out)} held-out rows: their loss is a rough guess")
    return warnings


def _licence_warnings(info: ModelInfo, dataset: Mapping[str, Any]) -> list[str]:
    return [
        f"the licence of the {noun} is not known: set it when importing"
        for noun, licence in (("model", info["licence"]), ("dataset", dataset["licence"]))
        if not licence
    ]


def _described(info: ModelInfo) -> str:
    return {"gguf": "a GGUF file", "adapter": "an adapter"}.get(info["format"], info["format"])


def _train_from(info: ModelInfo) -> str:
    if info["format"] == "gguf":
        return "name the safetensors directory it was made from"
    return f"name its base, {info['base']!r}" if info["base"] else "name the full model it was trained from"


def _field_error(field: str, message: str, next_step: str) -> UsageError:
    return UsageError(f"{field}: {message}", next_step, [{"field": field, "message": message}])


def _missing(field: str, message: str, next_step: str) -> NotFoundError:
    return NotFoundError(f"{field}: {message}", next_step, [{"field": field, "message": message}])
