"""The other datasets of a train spec: what is rehearsed and what is probed, checked row by row like the one that is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.model_files import ModelFiles
from llmops_tui.engine.preflight_checks import check_model_for_rows, dataset_record
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
        prepared["probe"] = record
    return prepared
