"""A model compressed by the quantizer of another environment, from calibration rows that are not compared on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from llmops_tui.engine.jobs.corpus import encode_rows, read_split, require_rows
from llmops_tui.engine.jobs.labels import RowEncoder
from llmops_tui.engine.jobs.model_writing import copy_licences, sync_files
from llmops_tui.engine.jobs.quantizing import compress_apart
from llmops_tui.engine.jobs.quantizing.apart import Progress, run_apart
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.train import DatasetChoice


def calibration_rows(
    spec: QuantizeSpec, measure: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, progress: Progress
) -> list[list[int]]:
    """What the source's run learnt from; of a plain file the rows behind those compared on. Raises UsageError where there are none."""
    choice = DatasetChoice.model_validate(measure["choice"])
    learnt, _, _ = read_split(choice, measure["dataset"], measure["eval_dataset"], measure["seed"])
    rows = learnt if measure["held_out"] else learnt[spec.measure.rows :]
    encoder = RowEncoder(tokenizer, spec.measure.max_length, assistant_only=False)
    encoded = encode_rows(encoder, rows[: spec.calibration_rows], progress)
    require_rows(encoded, "to calibrate on (behind measure.rows that are compared on)", spec.measure.max_length)
    return [row.input_ids.tolist() for row in encoded.rows]


def compress(
    word: str, runtime: Mapping[str, str], source: Path, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], target: Path,
    device: str, workspace: Path, progress: Progress,
) -> None:  # fmt: skip
    """Into the empty directory `target`, durable. Raises LlmopsError."""
    settings = {"by": runtime["name"], "type": word, "model": str(source), "target": str(target), "device": device, "rows": rows}
    run_apart(runtime["python"], compress_apart.__file__, settings, workspace, progress)
    tokenizer.save_pretrained(target)
    if not (target / "generation_config.json").is_file() and (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", target / "generation_config.json")
    generation = GenerationConfig.from_pretrained(target) if (target / "generation_config.json").is_file() else GenerationConfig()
    if generation.eos_token_id is None:
        generation.eos_token_id, generation.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        generation.save_pretrained(target)
    copy_licences(source, target)
    sync_files(target)
