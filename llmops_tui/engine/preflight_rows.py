"""The rows on which a model that is made is compared with its source: a file's, or those the source's own run held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from llmops_tui.data.durable import read_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.preflight_checks import dataset_record, field_error
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.row_formats import LEARNT


class RowsChoice(Protocol):
    """What a spec says of them: VerifyChoice, MeasureChoice."""

    @property
    def dataset(self) -> str: ...
    @property
    def format(self) -> str: ...


def run_record(home: Home, model: ModelInfo) -> dict[str, Any] | None:
    """The spec.json of the run that made a model, found by its registration or by where it lies; None where there is none."""
    run = model["run"]
    path = Path(model["path"])
    if not run and path.is_relative_to(home.runs):
        run = path.relative_to(home.runs).parts[0]
    if not run:
        return None
    try:
        record = read_json(RunDir(home.runs / run).spec)
    except (OSError, ValueError):
        return None  # its owner's alone, or damaged: the user can still name the rows
    return record if isinstance(record, dict) else None


def comparison_rows(
    choice: RowsChoice, field: str, home: Home, cwd: Path, info: ModelInfo, made_by: dict[str, Any] | None
) -> dict[str, Any]:
    """`PreparedRows` of jobs/verification_rows.py. `field`: where the spec's choice stands, such as "verify".

    Raises UsageError at `field`.dataset where there are none, ConflictError where they have gone.
    """
    if choice.dataset:
        dataset, _ = dataset_record(home, f"{field}.dataset", choice.dataset, choice.format, cwd)
        return {
            "choice": {"path": dataset["path"], "format": choice.format, "eval_fraction": 0.0},
            "dataset": dataset, "eval_dataset": None, "seed": 0, "held_out": False, "assistant_only": True,
            "why": f"rows of {dataset['path']}",
        }  # fmt: skip
    missing = field_error(
        f"{field}.dataset",
        f"no run of this box held rows out for {info['path']}",
        f"name rows to compare on: --set {field}.dataset=rows.jsonl",
    )
    if made_by is None:
        raise missing
    wish, prepared = made_by.get("spec", {}), made_by.get("prepared", {})
    earlier = prepared.get("verify") or prepared.get("measure")
    if earlier:  # it was compared itself when it was made: on the same rows again
        return _there(earlier, field, made_by)
    if not (prepared.get("rows") or {}).get("held_out") or (prepared.get("eval_dataset") or prepared["dataset"])["format"] not in LEARNT:
        raise missing
    found = {
        "choice": wish["dataset"], "dataset": prepared["dataset"], "eval_dataset": prepared.get("eval_dataset"), "seed": wish["seed"],
        "held_out": True, "assistant_only": wish.get("assistant_only", True), "why": f"rows that {made_by.get('id')} held out",
    }  # fmt: skip
    return _there(found, field, made_by)


def _there(found: dict[str, Any], field: str, made_by: dict[str, Any]) -> dict[str, Any]:
    for key in ("dataset", "eval_dataset"):
        if found[key] and not Path(found[key]["path"]).exists():
            raise ConflictError(
                f"{field}.dataset: the rows that {made_by.get('id')} held out have gone: {found[key]['path']}",
                f"name others in {field}.dataset",
            )
    return found
