"""What a sweep decides, without an engine: spaces, suggestions, pruning, budgets, the end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.sweeps.asha import cut
from llmops_tui.engine.sweeps.decide import decide
from llmops_tui.engine.sweeps.fold_scores import t_quantile, together
from llmops_tui.engine.sweeps.reports import ReportReader
from llmops_tui.engine.sweeps.space import grid, key_of, values_of
from llmops_tui.engine.sweeps.suggest import importances, most_trials, suggest
from llmops_tui.engine.sweeps.trials import Report, Trial, TrialState, best_first
from llmops_tui.errors import UsageError
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.sweep import Setting, SpaceChoice, SweepSpec

BASE = {"kind": "train", "model": "m", "dataset": {"path": "rows.jsonl"}, "evaluate_every": 2}
SPACE: dict[str, Any] = {"optim.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "lora.r": [4, 8, 16]}


def sweep(**values: Any) -> SweepSpec:
    return SweepSpec.model_validate({"base": BASE, "space": SPACE, **values})


def trial(number: int, state: TrialState = "complete", *values: float, params: dict[str, Setting] | None = None, **rest: Any) -> Trial:
    """Its values came at 100, 300, 900 … tokens."""
    reports = [Report(100 * 3**place, value) for place, value in enumerate(values)]
    own = params or {"optim.learning_rate": 1e-4 * number, "lora.r": 8}
    return Trial(number, f"train-s-t{number:02d}-{number:04d}", state, own, reports, **{"ended_at": float(number), **rest})


def followed(spec: SweepSpec, count: int) -> list[Trial]:
    """Trials as a sweep would make them one after the other; the best rate is 1e-3."""
    trials: list[Trial] = []
    for number in range(1, count + 1):
        params = suggest(spec, trials, number)
        rate = params["optim.learning_rate"]
        assert isinstance(rate, float)
        trials.append(trial(number, "complete", abs(math.log10(rate) + 3), params=params))
    return trials


def next_of(spec: SweepSpec, trials: Sequence[Trial], *, stopping: bool = False, room: bool = True, now: float = 0.0) -> Any:
    return decide(spec, trials, since=0.0, now=now, stopping=stopping, room=room)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"space": {"optim.learning_rat": [1]}}, "space.optim.learning_rat: 1: unknown key"),
        ({"space": {"optim.learning_rate": [1e-4, -1]}}, "space.optim.learning_rate: -1: should be greater than 0"),
        ({"space": {"lora.r": {"low": 8, "high": 4}}}, r"low \(8\) must be below high \(4\)"),
        ({"space": {"lora.r": {"low": 8}}}, "give choices, or low and high"),
        ({"space": {"lora.r": {"low": 0, "high": 8, "log": True}}}, "a logarithmic range begins above 0"),
        ({"space": {"lora.r": {"choices": [4], "low": 1}}}, "not both"),
        ({"space": {"lora.r": [4, 4]}}, "names a choice twice"),
        ({"space": {"name": ["a"]}}, "space.name: cannot be varied"),
        ({"space": {}}, "space: must not be empty"),
        ({"sampler": "grid"}, "space.optim.learning_rate: a grid needs choices, step or points"),
        ({"base": {**BASE, "evaluate_every": None}}, "asha needs eval/loss while a trial trains: set base.evaluate_every"),
        ({"metric": "my/thing"}, "set minimize or maximize"),
        ({"resources": {"gpus": 1}}, "set base.resources"),
        ({"parallel": 0}, "must be 1 to 1000"),
        ({"base": {**BASE, "model": ""}}, "base: model: name the model"),
    ],
)
def test_a_wish_that_cannot_be_carried_out_is_refused_with_the_field_and_the_reason(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_spec({"kind": "sweep", "base": BASE, "space": SPACE, **values})


def test_a_spec_is_the_same_after_it_was_written_down_and_read_again() -> None:
    spec = sweep()
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_a_range_is_laid_out_evenly_on_its_own_scale() -> None:
    assert values_of(SpaceChoice(low=1e-4, high=1e-2, log=True, points=3)) == [1e-4, 1e-3, 1e-2]
    assert values_of(SpaceChoice(low=1, high=9, step=4)) == [1, 5, 9]
    assert values_of(SpaceChoice(low=1, high=3)) == [1, 2, 3]
    assert values_of(SpaceChoice(low=0.0, high=0.2, step=0.1)) == [0.0, 0.1, 0.2]


def test_a_grid_has_every_combination_once_in_an_order_of_its_seed() -> None:
    spec = sweep(sampler="grid", space={"lora.r": [4, 8, 16], "seed": [0, 1, 2]})
    points = [suggest(spec, [], number) for number in range(1, most_trials(spec) + 1)]
    assert len({key_of(point) for point in points}) == 9
    assert points == grid(spec.space, 0) != grid(spec.space, 1)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_trials_are_told_the_same_next_one_whoever_asks(sampler: str) -> None:
    spec = sweep(sampler=sampler)
    trials = followed(spec, 14)
    again = [suggest(spec, trials[: number - 1], number) for number in range(1, 15)]
    assert again == [dict(each.params) for each in trials]
    assert len({key_of(each.params) for each in trials}) == 14
    assert suggest(sweep(sampler=sampler, seed=1), [], 1) != again[0]


def test_tpe_learns_where_the_good_ones_are() -> None:
    late = followed(sweep(), 30)[20:]
    assert sum(each.value is not None and each.value < 0.7 for each in late) >= 6


def test_a_small_space_is_tried_whole_and_never_twice() -> None:
    spec = sweep(space={"lora.r": [4, 8, 16], "packing": [True, False]}, budget={"trials": 100})
    trials: list[Trial] = []
    for number in range(1, most_trials(spec) + 1):
        trials.append(trial(number, "complete", 1.0, params=suggest(spec, trials, number)))
    assert len({key_of(each.params) for each in trials}) == len(trials) == 6
    assert next_of(spec, trials).end.state == "succeeded"


def test_what_decides_between_good_and_bad_is_the_more_important() -> None:
    spec = sweep()
    found = importances(spec, followed(spec, 20))
    assert list(found) == ["optim.learning_rate", "lora.r"]
    assert sum(found.values()) == pytest.approx(1)
    assert importances(spec, followed(spec, 3)) == {}


def test_a_trial_that_falls_behind_at_a_rung_is_ended_with_the_reason() -> None:
    others = [trial(1, "complete", 3.0, 2.0), trial(2, "running", 3.5)]
    bad = trial(3, "running", 3.4)
    words = cut(bad, [*others, bad], eta=3, first=None, least_wins=True, metric="eval/loss")
    assert words == "pruned at 100 tokens: eval/loss 3.4 is not among the best 1 of 3"
    good = trial(3, "running", 2.9)
    assert cut(good, [*others, good], eta=3, first=None, least_wins=True, metric="eval/loss") == ""
    assert cut(bad, [*others, bad], eta=3, first=None, least_wins=False, metric="eval/accuracy") != ""
    assert cut(bad, [*others, bad], eta=3, first=500, least_wins=True, metric="eval/loss") == ""


def test_of_equal_values_only_the_earlier_one_goes_on() -> None:
    first, same = trial(1, "running", 3.0), trial(2, "running", 3.0)
    assert cut(first, [first, same], eta=3, first=None, least_wins=True, metric="eval/loss") == ""
    assert "best 1 of 2" in cut(same, [first, same], eta=3, first=None, least_wins=True, metric="eval/loss")


def test_only_the_highest_rung_it_reached_counts_and_no_number_is_the_worst() -> None:
    others = [trial(1, "complete", 1.0, 9.0)]
    survivor = trial(2, "running", 5.0, 2.0)
    assert cut(survivor, [*others, survivor], eta=3, first=None, least_wins=True, metric="eval/loss") == ""
    broken = trial(3, "running", math.nan)
    assert "nan is not among" in cut(broken, [broken], eta=3, first=None, least_wins=True, metric="eval/loss")


def test_a_failed_trial_is_passed_over_and_too_many_in_a_row_end_the_sweep_with_the_last_reason() -> None:
    spec = sweep(parallel=1)
    two = [trial(1, "failed", reason="boom"), trial(2, "failed", reason="boom")]
    assert next_of(spec, two).begin == 3
    end = next_of(spec, [*two, trial(3, "failed", reason="exit code 1")]).end
    assert (end.state, end.reason) == ("failed", "3 trials in a row failed; the last, train-s-t03-0003: exit code 1")
    assert next_of(spec, [*two, trial(3, "complete", 1.0), trial(4, "failed")]).begin == 5
    running = [*two, trial(3, "failed"), trial(4, "running", ended_at=None)]
    assert next_of(spec, running).stop == ["train-s-t04-0004"]
    assert decide(spec, [*two, trial(3, "failed")], since=10.0, now=11.0, stopping=False, room=True).begin == 4


@pytest.mark.parametrize(
    ("budget", "words"),
    [({"trials": 2}, "all 2 trials are done"), ({"hours": 1}, "its 1 h are over"), ({"energy_kwh": 0.5}, "its 0.5 kWh are used")],
)
def test_a_budget_that_is_used_up_lets_what_runs_come_to_its_end(budget: dict[str, float], words: str) -> None:
    spec = sweep(budget=budget)
    trials = [trial(1, "complete", 2.0, joules=1e6), trial(2, "running", ended_at=None, joules=0.9e6)]
    waiting = next_of(spec, trials, now=3700.0)
    assert (waiting.begin, waiting.end) == (None, None)
    end = next_of(spec, [trials[0], trial(2, "complete", 1.5, joules=0.9e6)], now=3700.0).end
    assert end.state == "succeeded"
    assert end.reason.startswith(f"{words}; 2 complete; best eval/loss 1.5 by train-s-t02")


def test_as_many_trials_are_begun_as_there_is_room_for_and_one_always_has_its_place_in_the_queue() -> None:
    running, waiting = trial(1, "running", ended_at=None), trial(2, "waiting", ended_at=None)
    assert next_of(sweep(), [], room=False).begin == 1
    assert next_of(sweep(), [running], room=False).begin is None
    assert next_of(sweep(), [running], room=True).begin == 2
    assert next_of(sweep(), [running, waiting], room=True).begin is None
    assert next_of(sweep(parallel=3), [running, waiting], room=False).begin == 3


def test_a_sweep_that_is_stopped_ends_when_its_trials_have() -> None:
    told = next_of(sweep(), [trial(1, "complete", 2.0), trial(2, "running", ended_at=None)], stopping=True)
    assert (told.stop, told.why) == (["train-s-t02-0002"], "stopped by the user")
    end = next_of(sweep(), [trial(1, "complete", 2.0), trial(2, "cancelled")], stopping=True).end
    assert (end.state, end.reason.split(";")[0]) == ("cancelled", "stopped by the user")


def test_a_sweep_of_which_no_trial_has_a_value_has_failed() -> None:
    end = next_of(sweep(budget={"trials": 1}), [trial(1, "pruned", 3.0)]).end
    assert (end.state, end.reason) == ("failed", "all 1 trials are done, and none came to its end with a value of eval/loss")


def test_complete_trials_stand_before_pruned_ones_whose_values_are_of_fewer_tokens() -> None:
    trials = [trial(1, "failed"), trial(2, "pruned", 1.0), trial(3, "complete", 3.0), trial(4, "complete", 2.0)]
    assert [each.number for each in best_first(trials, True)] == [4, 3, 2, 1]
    assert [each.number for each in best_first(trials, False)] == [3, 4, 2, 1]


def test_reports_are_read_while_they_grow_and_an_attempt_that_goes_back_tells_them_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = ReportReader(path, "eval/loss")
    reader.read()

    def tell(*records: dict[str, Any], torn: str = "") -> None:
        with open(path, "a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records) + torn)
        reader.read()

    def metric(step: int, **values: Any) -> dict[str, Any]:
        return {"type": "metric", "step": step, "values": {name.replace("__", "/"): value for name, value in values.items()}}

    tell(metric(0, eval__loss=9.0), metric(1, train__tokens=50), metric(2, train__tokens=100), metric(2, eval__loss=3.0), torn='{"type":')
    assert reader.reports == [Report(100, 3.0)]
    with open(path, "a") as file:
        file.write('"log"}\n')
    tell(metric(4, train__tokens=200), metric(4, eval__loss="NaN"), metric(3, train__tokens=150), metric(4, eval__loss=2.0))
    assert reader.reports == [Report(100, 3.0), Report(150, 2.0)]
    assert reader.tokens == 150


def test_where_no_tokens_are_told_steps_stand_for_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type":"metric","step":7,"values":{"score":0.5}}\n')
    reader = ReportReader(path, "score")
    reader.read()
    assert reader.reports == [Report(7, 0.5)]


def test_the_interval_of_folds_is_wider_than_that_of_independent_scores() -> None:
    # Quantiles as in every printed table; the interval by hand: sqrt((1/5 + 1/4) * 0.025) * 2.776.
    assert [round(t_quantile(0.975, degrees), 3) for degrees in (1, 2, 3, 4, 9, 30)] == [12.706, 4.303, 3.182, 2.776, 2.262, 2.042]
    found = together([2.0, 2.1, 2.2, 2.3, 2.4], 0.25)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(2.2)
    assert (found.high - found.low) / 2 == pytest.approx(2.7764 * math.sqrt(0.45 * 0.025), rel=1e-4)
    assert together([], 0.25) is None
    assert together([1.0], 0.25) == (1.0, None, None, None)
