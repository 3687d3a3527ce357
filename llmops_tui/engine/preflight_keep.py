"""The other datasets of a train spec: what is rehearsed and what is probed, checked row by row like the one that is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.choices import CHOICES_IN, numbered_choices
from llmops_tui.data.model_files import ModelFiles
from llmops_tui.data.rows import RowError, read_rows
from llmops_tui.engine.preflight_checks import check_model_for_rows, dataset_record
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.row_formats import LEARNT, learnable_by
from llmops_tui.specs.train import TrainSpec


def prepare_keep(spec: TrainSpec, home: Home, cwd: Path, files: ModelFiles) -> dict[str, Any]:
    """What a run keeps of them: `rehearsal`, a record each, and `probe`; only those that are asked for.

    Raises UsageError or NotFoundError at the field.
    """
    prepared: dict[str, Any] = {}
    for number, choice in enumerate(spec.keep.rehearsal):
        field = f"keep.rehearsal.{number}.path"
        record, found = dataset_record(home, field, choice.path, choice.format, cwd, learnable_by(spec.method))
        check_model_for_rows(spec.model, files, found.format)
        prepared.setdefault("rehearsal", []).append(record)
    if spec.keep.probe_path:
        record, found = dataset_record(home, "keep.probe_path", spec.keep.probe_path, spec.keep.probe_format, cwd, LEARNT)
        check_model_for_rows(spec.model, files, found.format)
        _check_options(Path(record["path"]), found.format)
        prepared["probe"] = record
    return prepared


def _check_options(path: Path, row_format: str) -> None:
    """Rows that name options are chosen from, and each must say which is right. Raises UsageError with a row's number."""
    if row_format != CHOICES_IN:
        return
    for number, row in read_rows(path):
        try:
            numbered_choices(number, row)
        except RowError as error:
            message, next_step = f"keep.probe_path: {path}: {error.message}", "correct the row, or take its options out"
            raise UsageError(message, next_step, error.fields) from None
