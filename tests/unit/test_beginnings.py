"""A clone of a run that ran out of memory begins with what the engine found would fit."""

from __future__ import annotations

from typing import Any

from llmops_tui.screens.beginnings import with_advice
from llmops_tui.screens.draft import Draft
from llmops_tui.specs.form import spec_form


def cloned(state: str, data: dict[str, Any]) -> Draft:
    spec = {"kind": "train", "model": "m", "dataset": {"path": "d"}, "micro_batch": 4}
    run: Any = {"id": "train-a-0001", "state": state, "spec": spec, "journal": [{"data": data}], "cwd": "/"}
    return with_advice(Draft.of_run(spec_form("train"), run), run)


def test_the_advice_is_filled_in_and_counts_as_changed() -> None:
    draft = cloned("out_of_memory", {"advice": {"micro_batch": 1, "accumulation": 4, "gradient_checkpointing": True, "unknown": 3}})
    assert draft.faults == {}
    assert [draft.value(key) for key in ("micro_batch", "accumulation", "gradient_checkpointing")] == [1, 4, True]
    assert draft.changed("micro_batch")
    assert not draft.changed("model")


def test_a_run_that_ended_otherwise_is_cloned_as_it_was() -> None:
    assert cloned("failed", {"advice": {"micro_batch": 1}}).value("micro_batch") == 4
    assert cloned("out_of_memory", {}).value("micro_batch") == 4
