"""Everything a run needs is checked before anything is started; what was found is kept with the run as `prepared`.

`prepared` of train and evaluate: `model` and `dataset` (absolute paths, formats, digests), `eval_dataset` where there is one, `rows`
(`{"learnt", "held_out"}`), `disk_bytes` (the forecast), `disk_free_bytes`, `warnings`; of train also `facts`, which the estimate
is made from (estimator.py). Of command: `program` and `cwd` in their place.
Blocking (it reads the data): call it in a thread.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.data.models import model_digest
from llmops_tui.data.recognition import describe
from llmops_tui.engine import disk_forecast, scratch_model
from llmops_tui.engine.estimate.facts import describe_model, rows_of_scan, with_teacher
from llmops_tui.engine.preflight_adaptation import adaptation_warnings, check_adaptation
from llmops_tui.engine.preflight_checks import (
    base_of,
    check_model_for_rows,
    dataset_record,
    described,
    eval_dataset_record,
    field_error,
    licence_warnings,
    matrices,
    model_info,
    model_record,
    not_found,
    require_context,
    require_packages,
    row_warnings,
    split,
    train_from,
)
from llmops_tui.engine.preflight_combine import prepare_combine
from llmops_tui.engine.preflight_continued import Start, start_from_adapter
from llmops_tui.engine.preflight_keep import prepare_keep
from llmops_tui.engine.preflight_loadtest import prepare_loadtest
from llmops_tui.engine.preflight_merge import prepare_merge
from llmops_tui.engine.preflight_prune import prepare_prune
from llmops_tui.engine.preflight_quantize import prepare_quantize
from llmops_tui.engine.preflight_rewards import prepare_rewards
from llmops_tui.engine.preflight_serve import prepare_serve
from llmops_tui.engine.preflight_teacher import teacher_record
from llmops_tui.engine.sweeps.preflight import ADVICE as PARENT_ADVICE
from llmops_tui.engine.sweeps.preflight import prepare_parent
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.combine import CombineSpec
from llmops_tui.specs.command import CommandSpec
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.crossval import CrossvalSpec
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.loadtest import LoadtestSpec
from llmops_tui.specs.merge import MergeSpec
from llmops_tui.specs.prune import PruneSpec
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.row_formats import learnable_by
from llmops_tui.specs.serve import ServeSpec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.states import JOB_KINDS
from llmops_tui.specs.sweep import SweepSpec
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import following

_TRAINING_PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl", "datasets")
_SCORING_PACKAGES = ("torch", "transformers", "peft")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FEW_LEARNT_ROWS = 50


def prepare(spec: RunSpec, home: Home, settings: Settings, cwd: str | Path) -> dict[str, Any]:
    """Check the wish against this box. `cwd` is the submitter's directory: relative paths in the spec start there.

    Raises UsageError or NotFoundError naming the field, InsufficientResourcesError where the disk forecast does not fit.
    """
    cwd = Path(cwd)
    _check_environment(spec.env)
    prepared: dict[str, Any]
    if isinstance(spec, TrainSpec):
        prepared, forecast = _prepare_train(spec, home, cwd)
        advice = "lower keep_checkpoints, train an adapter or lower lora.r, or set engine.refuse_start_free_bytes"
    elif isinstance(spec, EvaluateSpec):
        prepared, forecast = _prepare_evaluate(spec, home, cwd), disk_forecast.RECORDS_BYTES
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, MergeSpec):
        prepared, forecast = prepare_merge(spec, home, cwd)
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, SweepSpec | CrossvalSpec):
        prepared, forecast = prepare_parent(spec, lambda trial: prepare(trial, home, settings, cwd))
        advice = PARENT_ADVICE
    elif isinstance(spec, CombineSpec):
        prepared, forecast = prepare_combine(spec, home, cwd)
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, PruneSpec):
        prepared, forecast = prepare_prune(spec, home, cwd)
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, QuantizeSpec):
        prepared, forecast = prepare_quantize(spec, home, settings.runtimes, cwd)
        advice = "ask for fewer types, or set engine.refuse_start_free_bytes"
    elif isinstance(spec, ServeSpec):
        prepared, forecast = prepare_serve(spec, home, settings.runtimes, cwd)
        advice = "or set engine.refuse_start_free_bytes"
    elif isinstance(spec, LoadtestSpec):
        prepared, forecast = prepare_loadtest(spec, home, cwd)
        advice = "or lower requests"
    elif isinstance(spec, CommandSpec):
        prepared, forecast = _prepare_command(spec, cwd), 0
        advice = "lower resources.disk_bytes, or set engine.refuse_start_free_bytes"
    else:
        raise UsageError(f"job kind {spec.kind!r} has no checks", f"use one of: {', '.join(JOB_KINDS)}")
    needed = spec.resources.disk_bytes if spec.resources.disk_bytes is not None else forecast
    free = disk_forecast.require_disk(home.root, needed, settings.engine.refuse_start_free_bytes, advice)
    return {**prepared, "disk_bytes": needed, "disk_free_bytes": free}


def _prepare_train(spec: TrainSpec, home: Home, cwd: Path) -> tuple[dict[str, Any], int]:
    require_packages(_TRAINING_PACKAGES)
    if spec.processes.hosts and shutil.which("ssh") is None:
        raise field_error("processes.hosts", "needs the program ssh, which is not installed", "install an OpenSSH client")
    info = describe(scratch_model.files_of(spec.scratch)) if spec.scratch.preset else model_info(home, spec.model, cwd)
    start = start_from_adapter(spec, home, cwd, info) if info["format"] == "adapter" else None
    if start is not None:
        spec = following(spec, start.continued)
    elif info["format"] != "full":
        raise field_error("model", f"{spec.model!r} is {described(info)}, and training starts from a full model", train_from(info))
    files = start.files if start else scratch_model.files_of(spec.scratch) if spec.scratch.preset else recognise(Path(info["path"]))
    shapes = disk_forecast.adapted_matrices(matrices(files), spec.lora)
    if not shapes and spec.adaptation != "full":
        raise field_error("lora.target_modules", f"{spec.lora.target_modules!r} names no weight of {spec.model!r}", "try all-linear")
    check_adaptation(spec, files)
    for number, prompt in enumerate(spec.sample_prompts):
        if not prompt.strip():
            raise field_error(f"sample_prompts.{number}", "is empty", "write a prompt, or leave the list out")
    formats = learnable_by(spec.method)
    dataset, found = dataset_record(home, "dataset.path", spec.dataset.path, spec.dataset.format, cwd, formats)
    eval_dataset, eval_found = eval_dataset_record(home, spec.dataset, cwd, formats)
    learnt, held_out = split(spec.dataset, found, eval_found, spec.seed)
    if not learnt:
        raise field_error("dataset", f"{found.rows} rows leave none to learn from", "add rows, or lower eval_fraction or raise limit")
    check_model_for_rows(spec.model, files, found.format)
    require_context(spec.max_length, files, found, blocks=spec.method == "pretrain")
    teacher = teacher_record(spec, home, cwd, files)
    rewards = prepare_rewards(spec.grpo, dataset, cwd) if spec.method == "grpo" else []
    warnings = [
        *(start.warnings if start else []),
        *row_warnings(spec.max_length, files, found, eval_found, learnt, held_out, cut=spec.method != "pretrain"),
        *([f"only {len(learnt)} rows to learn from: the model will repeat them"] if len(learnt) < _FEW_LEARNT_ROWS else []),
        *adaptation_warnings(spec),
        *licence_warnings(info if info["licence"] or not start else start.base, dataset),
    ]
    return {
        "model": scratch_model.record_of(spec.scratch) if spec.scratch.preset else _model_record(spec, home, info, files, start),
        **({"continued": start.continued} if start else {}),
        "dataset": dataset,
        "eval_dataset": eval_dataset,
        "rows": {"learnt": len(learnt), "held_out": len(held_out)},
        "facts": {"model": _estimator_facts(spec, files, teacher), "rows": asdict(rows_of_scan(learnt, len(held_out), found.characters))},
        **({"rewards": rewards} if rewards else {}),
        **({"teacher": teacher} if teacher else {}),
        "warnings": warnings,
        **prepare_keep(spec, home, cwd, files),
    }, disk_forecast.train_bytes(spec, shapes, info["parameters"] or 0)


def _model_record(spec: TrainSpec, home: Home, info: ModelInfo, files: ModelFiles, start: Start | None) -> dict[str, Any]:
    record = model_record(home, spec.model, info, files)
    if start is None:
        return record
    base = {"base_path": start.base["path"], "base_sha256": model_digest(home, files.path)}
    return {**record, **base, "tokenizer_path": str(start.tokenizer_path), "licence": info["licence"] or start.base["licence"]}


def _estimator_facts(spec: TrainSpec, files: ModelFiles, teacher: Mapping[str, Any] | None) -> dict[str, Any]:
    described = scratch_model.facts_of(spec.scratch) if spec.scratch.preset else describe_model(files.path)
    return with_teacher(described, Path(teacher.get("base_path") or teacher["path"]) if teacher else None)


def _prepare_evaluate(spec: EvaluateSpec, home: Home, cwd: Path) -> dict[str, Any]:
    require_packages(_SCORING_PACKAGES)
    info = model_info(home, spec.model, cwd)
    if info["format"] == "gguf":
        raise field_error("model", f"{spec.model!r} is {described(info)}, which this version cannot score", train_from(info))
    files = recognise(Path(info["path"]))
    model = model_record(home, spec.model, info, files)
    if info["format"] == "adapter":
        # The adapter's own tokenizer is the one it was trained with.
        model["base_path"] = base_of(home, info, cwd)["path"]
    dataset, found = dataset_record(home, "dataset.path", spec.dataset.path, spec.dataset.format, cwd)
    eval_dataset, eval_found = eval_dataset_record(home, spec.dataset, cwd)
    learnt, held_out = split(spec.dataset, found, eval_found, spec.seed)
    if spec.split == "held_out" and not held_out:
        raise field_error("dataset.eval_fraction", "nothing is held out to score", "set dataset.eval_fraction or eval_path, or split=all")
    check_model_for_rows(spec.model, files, found.format)
    require_context(spec.max_length, files, found)
    warnings = row_warnings(spec.max_length, files, found, eval_found, learnt, held_out)
    rows = {"learnt": len(learnt), "held_out": len(held_out)}
    return {"model": model, "dataset": dataset, "eval_dataset": eval_dataset, "rows": rows, "warnings": warnings}


def _prepare_command(spec: CommandSpec, cwd: Path) -> dict[str, Any]:
    directory = Path(os.path.abspath(cwd / Path(spec.cwd).expanduser()))
    if not directory.is_dir():
        raise not_found("cwd", f"{directory}: no such directory", "name the directory the program is to run in")
    if not os.access(directory, os.X_OK):
        raise field_error("cwd", f"{directory} may not be entered", "name a directory that is open to you")
    program = spec.argv[0]
    search = spec.env.get("PATH", os.environ.get("PATH", os.defpath))
    found = shutil.which(directory / program) if "/" in program else shutil.which(program, path=search)
    if found is None:
        there = "/" in program and (directory / program).exists()
        reason = "is not an executable file" if there else "no such program"
        raise not_found("argv.0", f"{program}: {reason}", f"chmod +x {program}" if there else "check the name, or give its full path")
    return {"program": os.path.abspath(found), "cwd": str(directory), "warnings": []}


def _check_environment(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise field_error("env", f"{name!r} cannot be an environment variable", "use letters, digits and _, without a NUL in the value")
        if name.startswith("LLMOPS_"):
            raise field_error(f"env.{name}", "is set by the engine for every job", "choose another name")
