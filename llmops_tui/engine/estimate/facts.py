"""What the estimator has to know, read from the disk in milliseconds: the model's shape, the number and length of the rows.

It travels as JSON: where the engine is root's, it is read by a process of the user's (on_behalf.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# pydantic, which checks it on its way from another process, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from llmops_tui.data import datasets, models
from llmops_tui.data.model_files import recognise
from llmops_tui.data.safetensors_header import read_safetensors_header
from llmops_tui.data.shards import files_of
from llmops_tui.engine import scratch_model
from llmops_tui.engine.estimate.estimate import ModelFacts
from llmops_tui.engine.estimate.shapes import KNOWN_FAMILIES, shape_of
from llmops_tui.engine.estimate.workload import RowFacts
from llmops_tui.engine.preflight_continued import start_from_adapter
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.train import DatasetChoice, TrainSpec
from llmops_tui.specs.train_continued import Continued

_GLANCE_BYTES = 256 << 10
# English text in JSON lines: characters a token, and the share of a line that is text.
CHARACTERS_A_TOKEN = 4
_TEXT_SHARE = 0.9
_ITEM_BYTES = {"float32": 4, "float64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1}


class Facts(TypedDict):
    """`model`: config, parameters and matrices where the configuration cannot tell, file sizes. `rows`: RowFacts as a mapping.

    `continued`: the adapter that training goes on from, which the spec follows then; None without.
    """

    model: dict[str, Any]
    rows: dict[str, Any]
    continued: Continued | None


def glance(home: Home, spec: TrainSpec, cwd: Path) -> Facts:
    """The facts of a wish without reading all of it. Raises NotFoundError or UsageError naming the field `model`.

    Rows that cannot be found or read are no error here: their number is not known then.
    """
    if spec.scratch.preset:
        return Facts(model=scratch_model.facts_of(spec.scratch), rows=_rows(home, spec.dataset, cwd), continued=None)
    if not spec.model:
        raise _model_error("is not chosen", "name a model to see what it takes")
    path, continued = _find_model(home, spec, cwd)
    model = with_teacher(describe_model(path), _teacher_path(home, spec, cwd))
    return Facts(model=model, rows=_rows(home, spec.dataset, cwd), continued=continued)


def with_teacher(described: dict[str, Any], teacher: Path | None) -> dict[str, Any]:
    """The model's part with the parameters of the one it learns from; `teacher` is a whole model's directory."""
    return described if teacher is None else {**described, "teacher_parameters": recognise(teacher).parameters}


def _teacher_path(home: Home, spec: TrainSpec, cwd: Path) -> Path | None:
    """The directory of the teacher's weights. One that is not found is the check's to tell; the estimate says what it takes it for."""
    if spec.method != "distill":
        return None
    try:
        info = models.resolve(home, spec.distill.teacher, cwd)
        return Path(models.resolve(home, info["base"], cwd)["path"] if info["format"] == "adapter" else info["path"])
    except LlmopsError:
        return None


def _find_model(home: Home, spec: TrainSpec, cwd: Path) -> tuple[Path, Continued | None]:
    """The whole model, and the adapter where the spec names one."""
    ref = spec.model
    try:
        info = models.resolve(home, ref, cwd)
    except LlmopsError as error:
        alone = cwd / Path(ref).expanduser()
        if (alone / "config.json").is_file() and not (alone / "adapter_config.json").exists():
            return alone, None  # its weights are still to come
        error.fields = error.fields or [{"field": "model", "message": error.message}]
        raise
    if info["format"] == "adapter":
        start = start_from_adapter(spec, home, cwd, info)
        return Path(start.base["path"]), start.continued
    if info["format"] != "full":
        raise _model_error(f"{ref!r} is no full model ({info['format']})", "training starts from a full model or an adapter")
    return Path(info["path"]), None


def describe_model(path: Path) -> dict[str, Any]:
    """The model's part of the facts. Raises UsageError where there is no readable configuration."""
    files = recognise(path)
    if not files.config:
        raise _model_error(f"{path} has no readable config.json", "name a model directory")
    inner = files.config.get("text_config")
    family = str((inner if isinstance(inner, Mapping) else files.config).get("model_type") or "")
    matrices: dict[str, tuple[int, int]] = {}
    if family not in KNOWN_FAMILIES:
        for weights in files.weights:
            matrices.update(read_safetensors_header(weights).matrices)
    return {
        "config": _plain(files.config), "parameters": files.parameters, "matrices": matrices, "file_bytes": files.bytes,
        "file_item_bytes": _ITEM_BYTES.get(files.dtype, 2),
    }  # fmt: skip


def model_facts(path: Path) -> ModelFacts:
    """Both steps at once, for a model directory."""
    return read_model(describe_model(path))


def read_model(described: Mapping[str, Any]) -> ModelFacts:
    """From JSON. Raises UsageError naming the key of config.json that is missing or wrong."""
    matrices = {str(name): (int(sizes[0]), int(sizes[1])) for name, sizes in described["matrices"].items()}
    try:
        shape = shape_of(described["config"], matrices, described["parameters"])
    except ValueError as error:
        raise _model_error(str(error), "correct its config.json") from None
    return ModelFacts(shape, int(described["file_bytes"]), int(described["file_item_bytes"]), described.get("teacher_parameters"))


def rows_of_scan(learnt: Sequence[int], held_out: int, characters: Sequence[int]) -> RowFacts:
    """What preflight found: every row's characters, and which are learnt from."""
    lengths = [characters[index] for index in learnt] or [0]
    mean = sum(lengths) / len(lengths) / CHARACTERS_A_TOKEN
    return RowFacts(
        len(learnt),
        held_out,
        max(1.0, mean),
        max(1, max(lengths) // CHARACTERS_A_TOKEN),
        f"{len(learnt):,} rows read, 4 characters a token",
    )


def _rows(home: Home, choice: DatasetChoice, cwd: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "learnt": None,
        "held_out": 0,
        "mean_tokens": None,
        "longest_tokens": None,
        "source": "the rows were not found",
    }
    try:
        located = datasets.resolve(home, choice.path, cwd) if choice.path else None
        if located is None:
            return facts
        counted = located.info["rows"] if located.info else None
        rows, mean = _glance(files_of(located.path))
    except (LlmopsError, OSError):
        return facts
    rows = counted or rows
    if rows is None:
        return {**facts, "source": "the rows were not counted"}
    held_out = 0 if choice.eval_path else int(rows * choice.eval_fraction)
    learnt = min(rows - held_out, choice.limit or rows)
    source = f"{rows:,} rows as registered" if counted else f"about {rows:,} rows by the file's size"
    return {**facts, "learnt": max(1, learnt), "held_out": held_out, "mean_tokens": mean, "source": source}


def _glance(files: Sequence[Path]) -> tuple[int | None, float | None]:
    """About how many lines, and tokens a line, from each file's first bytes. None for what is not kept in lines."""
    rows, sizes, lines = 0.0, 0, 0
    for path in files:
        if path.suffix.lower() not in (".jsonl", ".ndjson", ".csv", ".tsv"):
            return None, None
        with open(path, "rb") as file:
            head = file.read(_GLANCE_BYTES)
        found = max(1, head.count(b"\n"))
        rows += path.stat().st_size * found / max(1, len(head))
        sizes, lines = sizes + len(head), lines + found
    return (max(1, round(rows)), max(1.0, sizes / lines * _TEXT_SHARE / CHARACTERS_A_TOKEN)) if lines else (None, None)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the shape is read from: short values, and the text model's part."""
    kept = {key: value for key, value in config.items() if isinstance(value, str | int | float | bool) or key == "architectures"}
    inner = config.get("text_config")
    return {**kept, **({"text_config": _plain(inner)} if isinstance(inner, Mapping) else {})}


def _model_error(message: str, next_step: str) -> UsageError:
    return UsageError(f"model: {message}", next_step, [{"field": "model", "message": message}])
