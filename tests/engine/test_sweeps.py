"""Sweeps and cross-validations through a real engine; the trials' training is played (played_training.py)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import ConflictError, UsageError
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.states import ENDED
from tests.engine.played_training import base_spec
from tests.running_engine import kill_engine, running_engine
from tests.waiting import wait_for

RATES = {"optim.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_engine(tmp_path / "home") as running:
        yield running


def submit(client: Client, base: dict[str, Any], **values: Any) -> str:
    return client.submit({"kind": "sweep", "name": "rates", "base": base, "space": RATES, "parallel": 1, **values})["id"]


def trials(client: Client, parent: str) -> list[RunSummary]:
    return client.runs(filter=f"parent:{parent}", sort="id", descending=False)["runs"]


def ended(client: Client, run_id: str, seconds: float = 60.0) -> RunSummary:
    def over() -> RunSummary | None:
        run = client.run(run_id)
        return run if run["state"] in ENDED else None

    return wait_for(over, seconds, f"{run_id} to end")


def test_a_sweep_prunes_passes_over_failures_and_names_the_best(client: Client, tmp_path: Path) -> None:
    base = base_spec(tmp_path)
    sweep = submit(client, base, space={"optim.learning_rate": [1e-3, 1e-2, 0.1, 1e-4, 1e-5, 2e-3]}, sampler="grid", seed=1)
    run = ended(client, sweep)
    assert run["state"] == "succeeded", run["reason"]
    found = {client.run(trial["id"])["spec"]["optim"]["learning_rate"]: trial for trial in trials(client, sweep)}
    assert len(found) == 6
    assert found[1e-3]["state"] == "succeeded"
    assert found[0.1]["state"] == "failed"
    assert f"best eval/loss 0.1111 by {found[1e-3]['id']}" in run["reason"]
    assert run["latest"]["sweep/best"] == pytest.approx(1 / 9)
    assert [trial["name"] for trial in trials(client, sweep)][:2] == ["rates-t01", "rates-t02"]
    assert all(sweep in trial["tags"] for trial in found.values())
    table = client.sweep(sweep)
    assert table["trials"][0]["run"] == found[1e-3]["id"]
    assert table["importances"] == {"optim.learning_rate": 1.0}
    with pytest.raises(ConflictError, match="is over"):
        client.stop_run(sweep, "now")


def test_a_trial_that_falls_behind_is_ended_with_the_rung_it_fell_at(client: Client, tmp_path: Path) -> None:
    base = base_spec(tmp_path)
    base["env"]["SLOW_BELOW"] = "1e-4"  # it never ends by itself
    sweep = submit(client, base, space={"optim.learning_rate": [1e-3, 1e-5]}, sampler="grid", seed=1, asha={"first_tokens": 100})
    ended(client, sweep)
    states = {trial["state"]: trial["reason"] for trial in trials(client, sweep)}
    first, second = (client.run(trial["id"])["spec"]["optim"]["learning_rate"] for trial in trials(client, sweep))
    assert (first, second) == (1e-3, 1e-5), "the seed's order has the good one first"
    assert states["cancelled"].startswith("pruned at 100 tokens: eval/loss 3 is not among the best 1 of 2")


def test_three_failures_in_a_row_end_the_sweep_and_a_retry_goes_on(client: Client, tmp_path: Path) -> None:
    sweep = submit(client, base_spec(tmp_path), space={"optim.learning_rate": {"low": 0.1, "high": 0.9}}, sampler="random")
    run = ended(client, sweep)
    assert run["state"] == "failed"
    assert run["reason"].startswith("3 trials in a row failed; the last, train-rates-t03-0004: the loss is no number")
    client.retry(sweep)
    wait_for(lambda: len(trials(client, sweep)) == 4, 30)
    client.stop_run(sweep, "now")
    assert ended(client, sweep)["reason"].startswith("stopped by the user")


def test_killed_at_any_point_the_engine_takes_up_the_sweep_where_it_was(client: Client, tmp_path: Path) -> None:
    base = base_spec(tmp_path, max_steps=3)
    undisturbed = submit(client, base, budget={"trials": 12}, pruner="none", seed=5)
    ended(client, undisturbed)
    expected = [client.run(trial["id"])["spec"]["optim"]["learning_rate"] for trial in trials(client, undisturbed)]
    sweep = submit(client, base, budget={"trials": 12}, pruner="none", seed=5)
    for count in (1, 3, 6, 10):
        wait_for(lambda count=count: len(list(client.home.runs.glob("train-rates-t*"))) >= 12 + count, 60)  # type: ignore[misc]
        kill_engine(client.home, signal.SIGKILL)
        client.ensure_engine()
    run = ended(client, sweep)
    assert run["state"] == "succeeded", run["reason"]
    own = trials(client, sweep)
    assert [client.run(trial["id"])["spec"]["optim"]["learning_rate"] for trial in own] == expected
    assert [trial["name"] for trial in own] == [f"rates-t{number:02d}" for number in range(1, 13)]
    assert [point["values"]["sweep/trial"] for point in _told(client, sweep)] == list(range(1, 13))


def _told(client: Client, run_id: str) -> list[dict[str, Any]]:
    from llmops_tui.data.rundir import RunDir, read_lines

    events = read_lines(RunDir(client.home.runs / run_id).events)
    return [event for event in events if event["type"] == "metric"]


def test_a_stopped_sweep_stops_its_trials_and_is_not_deleted_before_they_are_over(client: Client, tmp_path: Path) -> None:
    base = base_spec(tmp_path)
    hold = client.home.root / "hold"
    hold.touch()
    sweep = submit(client, base)
    wait_for(lambda: [trial for trial in trials(client, sweep) if trial["state"] == "running"], 30)
    trial = trials(client, sweep)[0]
    with pytest.raises(ConflictError, match="is not over"):
        client.remove(sweep)
    with pytest.raises(ConflictError, match="has no process of its own"):
        client.checkpoint(sweep)
    client.stop_run(sweep, "now")
    assert ended(client, sweep)["state"] == "cancelled"
    assert client.run(trial["id"])["reason"] == "stopped by the user"
    hold.unlink()
    client.remove(sweep)
    assert [run["id"] for run in client.runs()["runs"]] == [trial["id"]]


def test_a_cross_validation_holds_every_row_out_once_and_tells_mean_and_interval(client: Client, tmp_path: Path) -> None:
    base = base_spec(tmp_path)
    run_id = client.submit({"kind": "crossval", "name": "cv", "base": base, "folds": 4})["id"]
    run = ended(client, run_id)
    assert run["state"] == "succeeded", run["reason"]
    answer = client.sweep(run_id)
    folds = answer["folds"]
    assert folds is not None
    # Played losses: a fold's number / 10 above the rest, at the default rate of 2e-4.
    assert [round(trial["value"] or 0, 3) for trial in sorted(answer["trials"], key=lambda trial: trial["number"])] == [
        pytest.approx(0.699 + 1 / 9 + fold / 10, abs=2e-3) for fold in range(1, 5)
    ]
    assert folds["low"] is not None
    assert folds["low"] < folds["mean"] < (folds["high"] or 0)
    assert sum(fold["held_out"] for fold in folds["rows"]) == 40


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"base": {"model": "nowhere"}}, "nowhere"),
        ({"space": {"dataset.path": ["rows.jsonl", "missing.jsonl"]}}, "missing.jsonl"),
        ({"kind": "crossval", "folds": 30, "group_by": "topic"}, "has no 'topic', by which the rows are grouped"),
    ],
)
def test_what_no_trial_could_use_is_refused_before_the_first(client: Client, tmp_path: Path, values: dict[str, Any], words: str) -> None:
    base = base_spec(tmp_path)
    spec: dict[str, Any] = {"kind": "sweep", "space": RATES, **values, "base": {**base, **values.get("base", {})}}
    if spec["kind"] == "crossval":
        del spec["space"]
    with pytest.raises(Exception, match=words):
        client.submit(spec, cwd=str(tmp_path))
    assert client.runs()["total"] == 0


def test_the_engine_imports_optuna_only_when_a_sweep_asks(client: Client) -> None:
    maps = Path(f"/proc/{client.ensure_engine()['pid']}/maps").read_text()
    assert "sqlalchemy" not in maps
    with pytest.raises(UsageError):
        client.submit({"kind": "sweep"})
