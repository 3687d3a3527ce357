"""What several job kinds ask before they start: packages, models, adapters' bases, datasets and their split.

Each check raises UsageError or NotFoundError that names the field, the reason and the next step. Blocking: they read the data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_tui.data import datasets, models
from llmops_tui.data.folds import groups_of
from llmops_tui.data.model_files import REWARD_MODEL, ModelFiles
from llmops_tui.data.safetensors_header import read_safetensors_header
from llmops_tui.data.scan import Scan, scan
from llmops_tui.data.split import held_out_file_rows, split_rows
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.row_formats import LEARNT, methods_for
from llmops_tui.specs.train import DatasetChoice

# English text; other scripts have fewer characters a token, so a warning may come late but is not false.
_CHARACTERS_A_TOKEN = 4
_FEW_HELD_OUT_ROWS = 20


def require_packages(names: Sequence[str]) -> None:
    """Found without importing: torch alone costs seconds and hundreds of megabytes."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(f"not installed: {', '.join(absent)}", "pip install 'llmops-tui[train]' into the engine's environment")


def model_info(home: Home, ref: str, cwd: Path, field: str = "model") -> ModelInfo:
    """The model meant by `ref`, which can be loaded and speaks. Raises NotFoundError or UsageError at `field`."""
    try:
        info = models.resolve(home, ref, cwd)
    except NotFoundError as error:
        raise NotFoundError(error.message, error.next_step, [{"field": field, "message": error.message}]) from None
    if info["architecture"].endswith((REWARD_MODEL, "ForSequenceClassification")):
        raise field_error(field, f"{ref!r} is a reward model: it scores answers and does not speak", "name the model it was trained from")
    return info


def model_record(home: Home, ref: str, info: ModelInfo, files: ModelFiles, field: str = "model") -> dict[str, Any]:
    """What a run keeps of a model: where it lies and its digest. Raises UsageError where it is not what was registered."""
    sha256 = models.model_digest(home, Path(info["path"]))
    if info["sha256"] and info["sha256"] != sha256:
        raise field_error(field, f"{info['path']} changed since {ref!r} was registered", "import it again for a new version")
    kept = ("name", "version", "path", "format", "architecture", "parameters", "dtype", "bytes", "licence", "base")
    described = {key: value for key, value in info.items() if key in kept}
    vocabulary = files.config.get("vocab_size")  # a loss is judged by it
    return {"ref": ref, **described, "sha256": sha256, "chat_template": files.chat_template, "vocabulary": vocabulary}


def matrices(files: ModelFiles) -> dict[str, tuple[int, int]]:
    """Shapes of all weight matrices, by name."""
    found: dict[str, tuple[int, int]] = {}
    for path in files.weights:
        found.update(read_safetensors_header(path).matrices)
    return found


def check_model_for_rows(ref: str, files: ModelFiles, row_format: str, field: str = "model") -> None:
    """Raise UsageError where the model has no tokenizer, or no chat template for conversations."""
    if not files.tokenizer:
        raise field_error(field, f"{ref!r} has no tokenizer: {files.path}", "copy its base's tokenizer files beside the weights")
    if row_format != "text" and not files.chat_template:
        raise field_error(
            field,
            f"{ref!r} has no chat template, and the rows are conversations ({row_format})",
            "add chat_template.jinja from its instruct version, or use rows of the format text",
        )


def base_of(home: Home, adapter: ModelInfo, cwd: Path, field: str = "model") -> ModelInfo:
    """The model an adapter was trained on. Raises UsageError where it names none, NotFoundError where that has gone."""
    if not adapter["base"]:
        raise field_error(
            field, f"the adapter {adapter['path']} does not name its base", "set base_model_name_or_path in adapter_config.json"
        )
    try:
        base = models.resolve(home, adapter["base"], cwd)
        return models.registered_at(home, Path(base["path"])) or base  # its name and licence, which the files may not say
    except NotFoundError as error:
        raise NotFoundError(
            f"the adapter's base is missing: {error.message}", "bring it to this box, or import it under that name"
        ) from None


def dataset_record(
    home: Home, field: str, ref: str, row_format: str, cwd: Path, learnable: Collection[str] = LEARNT
) -> tuple[dict[str, Any], Scan]:
    """What a run keeps of a dataset, every row of it checked, and what the look found.

    `learnable`: the formats the job has a use for. Raises UsageError, also where the rows have another; NotFoundError.
    """
    try:
        located = datasets.resolve(home, ref, cwd)
        found = scan(located.path, located.format if row_format == "auto" else row_format, learnable)
        _require_learnable(field, found, learnable)
        found.require_good()
    except NotFoundError as error:
        raise not_found(field, error.message, error.next_step) from None
    info = located.info
    return {
        "ref": ref, "name": info["name"] if info else located.path.name, "version": info["version"] if info else None,
        "path": str(located.path), "format": found.format,
        "why": "as registered" if info and row_format == "auto" else found.why, "rows": found.rows, "bytes": found.size_bytes,
        "mtime_ns": found.mtime_ns, "sha256": datasets.content_digest(home, located.path), "licence": info["licence"] if info else "",
    }, found  # fmt: skip


def _require_learnable(field: str, found: Scan, learnable: Collection[str]) -> None:
    if found.format not in learnable and found.format != "auto":
        made_for = " or ".join(f"method={method}" for method in methods_for(found.format))
        raise field_error(
            field,
            f"{found.path}: the rows have the format {found.format} ({found.why}), and this job reads {', '.join(learnable)}",
            f"train with {made_for}, or set dataset.format" if made_for else "name other rows, or set dataset.format",
        )


def eval_dataset_record(
    home: Home, choice: DatasetChoice, cwd: Path, learnable: Collection[str] = LEARNT
) -> tuple[dict[str, Any] | None, Scan | None]:
    """The same for a file of held-out rows; None where there is none."""
    if not choice.eval_path:
        return None, None
    # The two files may have different formats; one the user set holds for both.
    return dataset_record(home, "dataset.eval_path", choice.eval_path, choice.format, cwd, learnable)


def split(choice: DatasetChoice, found: Scan, eval_found: Scan | None, seed: int) -> tuple[list[int], list[int]]:
    """Indices `(learnt, held out)`. Raises UsageError where there are too few rows to hold one out."""
    learnt, held_out = split_rows(found.rows, choice, seed, found.keys, groups_of(found.path, choice.group_by))
    if eval_found is not None:
        return learnt, held_out_file_rows(eval_found.rows, choice, seed)
    if choice.eval_fraction and not held_out:
        raise field_error(
            "dataset", f"{found.rows} rows (equal ones counted once) are too few to hold one out", "add rows, or eval_fraction=0"
        )
    return learnt, held_out


def require_context(max_length: int, files: ModelFiles, found: Scan, *, blocks: bool = False) -> None:
    """Raise UsageError where a sequence would be longer than the model's context: a row that `max_length` would not cut soon enough.

    `blocks`: every sequence is `max_length` long.
    """
    context = files.context_length
    if not context or max_length <= context:
        return
    long = sum(count > context * _CHARACTERS_A_TOKEN for count in found.characters)
    if blocks or long:
        rows = "every sequence" if blocks else f"about {long:,} of {found.rows:,} rows"
        raise field_error("max_length", f"{rows} would be longer than the model's context of {context} tokens", f"use at most {context}")


def row_warnings(
    max_length: int,
    files: ModelFiles,
    found: Scan,
    eval_found: Scan | None,
    learnt: Sequence[int],
    held_out: Sequence[int],
    *,
    cut: bool = True,
) -> list[str]:
    """What is odd about the rows and yet no reason to refuse them. `cut`: what is beyond `max_length` is not learnt."""
    warnings = []
    long = cut and sum(count > max_length * _CHARACTERS_A_TOKEN for count in found.characters)
    if long:
        warnings.append(f"about {long:,} of {found.rows:,} rows are longer than max_length ({max_length} tokens) and will be cut")
    if files.context_length and max_length > files.context_length:
        warnings.append(f"max_length {max_length} is beyond the model's context of {files.context_length} tokens")
    if twice := found.rows - len(set(found.keys)):
        together = "share another row's prompt" if methods_for(found.format) else "repeat another row"
        warnings.append(f"{twice:,} of {found.rows:,} rows {together}")
    if found.equal_sides:
        warnings.append(f"{found.equal_sides:,} of {found.rows:,} pairs have the same answer twice: they teach nothing")
    if eval_found is not None and (shared := len(set(eval_found.keys) & {found.keys[index] for index in learnt})):
        warnings.append(f"{shared:,} rows of eval_path are also learnt from: the held-out loss will be too good")
    if 0 < len(held_out) < _FEW_HELD_OUT_ROWS:
        warnings.append(f"only {len(held_out)} held-out rows: their loss is a rough guess")
    return warnings


def licence_warnings(info: ModelInfo, dataset: Mapping[str, Any]) -> list[str]:
    """A licence that nobody stated is said before the model is made."""
    return [
        f"the licence of the {noun} is not known: set it when importing"
        for noun, licence in (("model", info["licence"]), ("dataset", dataset["licence"]))
        if not licence
    ]


def described(info: ModelInfo) -> str:
    """A format as a person says it."""
    return {"gguf": "a GGUF file", "adapter": "an adapter", "full": "a full model"}.get(info["format"], info["format"])


def train_from(info: ModelInfo) -> str:
    """What to name instead of a model that is none to start from."""
    if info["format"] == "gguf":
        return "name the safetensors directory it was made from"
    return f"name its base, {info['base']!r}" if info["base"] else "name the full model it was trained from"


def field_error(field: str, message: str, next_step: str) -> UsageError:
    """A wish that is wrong at one field."""
    return UsageError(f"{field}: {message}", next_step, [{"field": field, "message": message}])


def not_found(field: str, message: str, next_step: str) -> NotFoundError:
    """A thing named in a field that does not exist."""
    return NotFoundError(f"{field}: {message}", next_step, [{"field": field, "message": message}])
