"""What `sweeps show` and `sweeps export` print."""

from __future__ import annotations

from llmops_tui.commands.sweeps import csv_text, facts_of, trial_table
from llmops_tui.specs.answers_sweep import FoldAnswer, FoldRows, SweepAnswer, SweepBudgetUse, SweepRange, SweepTrial


def trial(number: int, state: str, value: float | None, rate: float, reason: str = "") -> SweepTrial:
    return SweepTrial(
        number=number, run=f"train-fiqa-t{number:02d}-{number:04d}", state=state, reason=reason, params={"optim.learning_rate": rate},
        value=value, tokens=1000 * number, reports=[], started_at=None, ended_at=None,
    )  # fmt: skip


def answer() -> SweepAnswer:
    return SweepAnswer(
        id="sweep-fiqa-0007", kind="sweep", name="fiqa", state="running", reason="", metric="eval/loss", least_wins=True, sampler="tpe",
        pruner="asha", space={"optim.learning_rate": SweepRange(choices=[], low=1e-5, high=1e-2, log=True)},
        trials=[trial(2, "complete", 2.25, 3e-4), trial(1, "pruned", 3.5, 1e-5, "pruned at 1,000 tokens: too bad"),
                trial(3, "failed", None, 0.01)],
        best_so_far=[[1, 2.25]], importances={"optim.learning_rate": 1.0}, folds=None,
        budget=SweepBudgetUse(
            trials=27, trials_used=3, hours=8.0, hours_used=0.5, energy_kwh=None, energy_kwh_used=None, tokens=6000, eta_seconds=90.0
        ),
    )  # fmt: skip


def test_the_facts_say_what_is_best_what_is_used_and_what_matters() -> None:
    facts = dict(facts_of(answer()))
    assert facts["used"] == "3 of 27 trials, 0.5 of 8 h, 6,000 tokens, about 1m30s left"
    assert facts["trials"] == "1 complete, 1 pruned, 1 failed"
    assert facts["importance"] == "optim.learning_rate 100%"
    assert facts["metric"] == "eval/loss, less is better"


def test_the_table_has_a_column_for_each_setting_that_was_varied() -> None:
    head, rows, _ = trial_table(answer())
    assert head == ["#", "RUN", "STATE", "EVAL/LOSS", "OPTIM.LEARNING_RATE", "TOKENS", "WHY"]
    assert rows[0] == ["2", "train-fiqa-t02-0002", "complete", "2.25", "0.0003", "2,000", ""]
    assert rows[2][3] == "-"


def test_csv_is_by_number_with_every_digit_and_an_empty_cell_for_nothing() -> None:
    lines = csv_text(answer()).splitlines()
    assert lines[0] == "trial,run,state,eval/loss,optim.learning_rate,tokens,reason"
    assert lines[1] == "train-fiqa-t01-0001,".join(["1,", 'pruned,3.5,1e-05,1000,"pruned at 1,000 tokens: too bad"'])
    assert lines[3] == "3,train-fiqa-t03-0003,failed,,0.01,3000,"


def test_of_a_cross_validation_the_mean_stands_with_its_interval() -> None:
    rows = [FoldRows(fold=1, learnt=30, held_out=10)]
    told = {**answer(), "kind": "crossval", "folds": FoldAnswer(mean=2.0, deviation=0.1, low=1.75, high=2.25, rows=rows)}
    facts = dict(facts_of(told))  # type: ignore[arg-type]
    assert facts["mean"] == "2 (95 %, corrected for shared rows: 1.75 to 2.25)"
    assert facts["rows"] == "fold 1: 30 learnt, 10 scored"
