"""What a user asks of a training job takes effect within one step, is answered with that step, and changes nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.jobs.adjustments import VARIABLE
from llmops_tui.engine.jobs.learning_rate import scale_learning_rate
from tests.engine.test_train_job import _process_as_before, end_of, make_run, model, run_train, series  # noqa: F401  # fixtures
from tests.engine.tiny_model import read_events

MakeRun = Callable[..., Path]


def ask_at(monkeypatch: pytest.MonkeyPatch, run: Path, asked: dict[int, list[dict[str, Any]]]) -> None:
    """Append commands while an update is under way, as the engine would."""
    from llmops_tui.engine.jobs.run_trainer import RunTrainer

    original = RunTrainer.training_step

    def acting(self: Any, *arguments: Any, **others: Any) -> Any:
        for line in asked.pop(self.state.global_step + 1, []):
            append_line(RunDir(run).control, {"t": 4e9, "by": 1000, "who": "ada", **line})
        return original(self, *arguments, **others)

    monkeypatch.setattr(RunTrainer, "training_step", acting)


def answers(run: Path) -> list[tuple[int, str]]:
    """`(step, command)` of the control events."""
    return [(event["step"], event["command"]) for event in read_events(run) if event["type"] == "control"]


def test_every_wish_takes_effect_within_the_step_it_was_asked_in(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:  # noqa: F811
    run = make_run("asked", optim={"learning_rate": 0.01, "schedule": "constant", "warmup_fraction": 0}, keep_checkpoints=20)
    ask_at(
        monkeypatch,
        run,
        {
            2: [{"command": "evaluate"}],
            3: [{"command": "sample"}, {"command": "checkpoint"}],
            4: [{"command": "set", "learning_rate_scale": 0.5, "checkpoint_every": 3, "evaluate_every": 4}],
            6: [{"command": "pause", "mode": "hold"}, {"command": "resume"}],
        },
    )
    assert run_train(monkeypatch, run) == 0
    assert answers(run) == [(2, "evaluate"), (3, "sample"), (3, "checkpoint"), (4, "set"), (6, "pause"), (6, "resume")]
    assert list(series(run, "eval/loss")) == [0, 2, 4, 8, 10]
    assert {event["step"] for event in read_events(run) if event["type"] == "sample"} == {0, 3, 10}
    assert [event["step"] for event in read_events(run) if event["type"] == "checkpoint"] == [3, 6, 9, 10]
    rates = series(run, "train/learning_rate")
    assert [rates[step] for step in range(1, 5)] == [0.01] * 4
    assert [rates[step] for step in range(5, 11)] == pytest.approx([0.005] * 6), "from the step after the one it was asked in"
    assert all(event["by"] == "ada" for event in read_events(run) if event["type"] == "control")


def test_a_pause_ends_with_a_checkpoint_of_that_step_and_the_rest_equals_an_uninterrupted_run(
    monkeypatch: pytest.MonkeyPatch,
    make_run: MakeRun,  # noqa: F811
) -> None:
    whole = make_run("whole")
    assert run_train(monkeypatch, whole) == 0
    run = make_run("paused")
    ask_at(monkeypatch, run, {4: [{"command": "pause", "mode": "free"}]})
    assert run_train(monkeypatch, run) == 0
    assert (end_of(run)["status"], answers(run)) == ("stopped", [(4, "pause")])
    monkeypatch.setenv("LLMOPS_CONTROL_BYTES", str(RunDir(run).control.stat().st_size))
    assert run_train(monkeypatch, run, attempt=2, resume=run / "checkpoints" / "checkpoint-4") == 0
    resumed = series(run, "train/loss")
    assert resumed == series(whole, "train/loss"), "in the middle of a pass over the rows, dropout and all"


def test_a_further_attempt_has_the_settings_of_the_one_before_and_half_the_rows_a_pass_is_the_same_training(
    monkeypatch: pytest.MonkeyPatch,
    make_run: MakeRun,  # noqa: F811
) -> None:
    whole, halved = make_run("whole", lora={"r": 4}), make_run("halved", lora={"r": 4})
    assert run_train(monkeypatch, whole) == 0
    adjustment = {"micro_batch": 1, "accumulation": 4, "gradient_checkpointing": True, "evaluate_every": 5, "learning_rate_scale": 1}
    monkeypatch.setenv(VARIABLE, json.dumps(adjustment))
    assert run_train(monkeypatch, halved) == 0
    assert list(series(halved, "eval/loss")) == [0, 5, 10]
    assert list(series(halved, "train/loss").values()) == pytest.approx(list(series(whole, "train/loss").values()), abs=1e-4)


def test_a_scale_of_zero_is_no_end_and_the_schedule_goes_on_where_it_would_be() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    assert scale_learning_rate(optimizer, schedule, 0.0) == (0.1, 0.0)
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.0]
    assert scale_learning_rate(optimizer, schedule, 2.0) == pytest.approx((0.0, 0.18))
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.16])
