"""A sweep's page: which columns stay, where a trial stands on a setting's axis, what the chart is called."""

from __future__ import annotations

from llmops_tui.screens.sweep_rows import (
    BEST,
    chart_title,
    charts_of,
    curves_of,
    matter_rows,
    place_of,
    settings_of,
    trial_columns,
    trial_rows,
)
from tests.tui.fake_sweep import sweep_answer

SWEEP = sweep_answer(1000.0)


def test_the_settings_that_matter_most_come_first_and_leave_last() -> None:
    assert settings_of(SWEEP) == ["optim.learning_rate", "lora.r", "optim.schedule"]
    assert [column.title for column in trial_columns(SWEEP, 78)][:4] == ["#", "state", "eval/loss", "learning_rate"]
    ranks = {column.title: column.rank for column in trial_columns(SWEEP, 160)}
    assert ranks["learning_rate"] < ranks["r"] < ranks["schedule"] < ranks["tokens"] < ranks["why"]


def test_the_best_complete_trial_is_marked_and_each_row_leads_to_its_run() -> None:
    rows = trial_rows(SWEEP)
    assert rows[0].cells[2][0].endswith("*")
    assert not any(row.cells[2][0].endswith("*") for row in rows[1:])
    assert rows[0].key.startswith("train-fiqa-t")


def test_a_trial_stands_at_the_logarithm_of_what_is_searched_so_and_at_the_place_of_a_word() -> None:
    trial = next(trial for trial in SWEEP["trials"] if trial["number"] == 2)
    assert place_of(SWEEP, "optim.learning_rate", trial) == -3
    assert place_of(SWEEP, "lora.r", trial) == 32
    assert place_of(SWEEP, "optim.schedule", trial) == 1
    assert chart_title(SWEEP, "optim.learning_rate") == "eval/loss over optim.learning_rate (log10)"
    assert chart_title(SWEEP, "optim.schedule") == "eval/loss over optim.schedule (1 cosine, 2 linear)"


def test_the_chart_goes_from_the_best_so_far_over_every_setting_with_pruned_trials_apart() -> None:
    assert charts_of(SWEEP) == [BEST, "optim.learning_rate", "lora.r", "optim.schedule"]
    assert [curve.name for curve in curves_of(SWEEP, BEST)] == ["eval/loss"]
    complete, pruned = curves_of(SWEEP, "lora.r")
    assert (complete.name, pruned.name) == ("complete", "pruned")
    assert all(last == first + 1 for first, last in complete.pieces), "each dot is a piece of its own"


def test_what_matters_tells_shares_and_the_best_ones_values() -> None:
    words = {row.key: row.cells[-1][0] for row in matter_rows(SWEEP) if not row.title}
    assert words["cfg.optim.learning_rate"].startswith("########    81%")
    assert words["fact.used"].startswith("12 of 27 trials, 0.83 of 8 h, 0.42 kWh")
