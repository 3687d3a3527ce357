"""What preflight found holds when the job starts, however long the run waited."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from llmops_tui.engine.jobs.corpus import read_split
from llmops_tui.engine.preflight import prepare
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import TrainSpec
from tests.catalog_files import ROWS, write_model, write_rows


@pytest.fixture(autouse=True)
def _libraries_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def submit(tmp_path: Path) -> tuple[TrainSpec, dict[str, object]]:
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", [*ROWS, *ROWS[:5]])
    spec = TrainSpec.model_validate({"model": "./model", "dataset": {"path": "rows.jsonl", "eval_fraction": 0.25, "limit": 30}, "seed": 3})
    settings = Settings.model_validate({"engine": {"refuse_start_free_bytes": 0}})
    return spec, prepare(spec, Home(tmp_path / "home", explicit=True), settings, tmp_path)


def test_the_job_reads_as_many_rows_as_preflight_counted(tmp_path: Path) -> None:
    spec, prepared = submit(tmp_path)
    learnt, held_out, every = read_split(spec.dataset, prepared["dataset"], None, spec.seed)  # type: ignore[arg-type]
    assert {"learnt": len(learnt), "held_out": len(held_out)} == prepared["rows"]
    assert len(every) == 45


def test_a_job_whose_rows_changed_while_it_waited_refuses_to_learn_from_them(tmp_path: Path) -> None:
    spec, prepared = submit(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS[:20])
    with pytest.raises(ConflictError, match=r"the rows changed since the run was submitted; submit the run again"):
        read_split(spec.dataset, prepared["dataset"], None, spec.seed)  # type: ignore[arg-type]
