"""The watchers' rules: what each fires on, what it says, and what it keeps silent about."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from llmops_tui.engine.watchers.hang import Hang
from llmops_tui.engine.watchers.panel import MOST_FIRINGS, Facts, Panel
from llmops_tui.engine.watchers.rule import Firing
from llmops_tui.engine.watchers.usual import Usual
from llmops_tui.specs.train_watch import WatchChoice
from llmops_tui.specs.watch_rules import RULES, RuleName

FACTS = Facts(vocabulary=1000, token_loss=True)


def fired(points: Iterable[tuple[str, float]], choice: WatchChoice | None = None, facts: Facts = FACTS) -> list[tuple[RuleName, Firing]]:
    """What fires on values of metrics; a step is counted at each `train/loss`."""
    panel, step, found = Panel(choice or WatchChoice(), facts), 0, []
    for metric, value in points:
        step += metric in ("train/loss", "loss")
        found += list(panel.feed(metric, step, 100.0 + step, value))
    return found


def losses(count: int, seed: int = 0, level: float = 2.0) -> list[float]:
    rng = random.Random(seed)
    return [level * (1 + (1 + step / 20) ** -0.5) * (1 + rng.gauss(0, 0.05)) for step in range(count)]


def of(metric: str, values: Iterable[float]) -> list[tuple[str, float]]:
    return [(metric, value) for value in values]


def test_a_healthy_run_fires_nothing() -> None:
    assert fired(of("train/loss", losses(400))) == []


@pytest.mark.parametrize(("metric", "value", "words"), [
    ("train/loss", math.nan, "the loss is NaN at step 40"),
    ("train/grad_norm", math.inf, "the gradient's norm is infinite at step 40"),
    ("eval/loss", -math.inf, "the held-out loss is infinite at step 40"),
])  # fmt: skip
def test_a_value_that_is_no_number_fires_once_however_often_it_comes(metric: str, value: float, words: str) -> None:
    points = of("train/loss", losses(39 if metric == "train/loss" else 40)) + of(metric, [value] * 3)
    (rule, firing), = fired(points)  # fmt: skip
    assert (rule, firing.words) == ("not_finite", words)


def test_a_single_wild_loss_is_a_spike_and_says_what_was_usual() -> None:
    series = losses(200)
    series[150] *= 4
    (rule, firing), = fired(of("train/loss", series))  # fmt: skip
    assert (rule, firing.step) == ("spike", 151)
    assert firing.threshold is not None
    assert firing.value > firing.threshold
    assert "jumped to" in firing.words


def test_a_spike_is_seen_although_the_loss_fell_steeply_just_before() -> None:
    """As in a run on real rows: the loss of the beginning must not stand for what is usual."""
    rng = random.Random(2)
    falling = [(0.6 + 5 * 0.95**step) * (1 + rng.gauss(0, 0.08)) for step in range(150)]
    assert [(rule, firing.step) for rule, firing in fired(of("train/loss", [*falling, 5.0, 0.6, 0.61]))] == [("spike", 151)]


def test_a_loss_that_rises_and_stays_is_a_divergence_seen_within_forty_steps() -> None:
    series = losses(200) + [3.2 + 0.01 * step for step in range(60)]
    found = [firing.step for rule, firing in fired(of("train/loss", series)) if rule == "divergence"]
    assert len(found) == 1
    assert 200 < found[0] <= 240


def test_a_run_that_blows_up_in_its_first_steps_is_seen_before_anything_is_usual() -> None:
    (rule, firing), = fired(of("train/loss", [3.0, 3.1, 2.9, 3.0, 3.0, 3.1, 3.0, 2.9, *([9.0] * 12)]))  # fmt: skip
    assert rule == "divergence"
    assert firing.step <= 16
    assert "at the beginning" in firing.words


def test_one_high_gradient_is_nothing_and_three_of_five_are_an_explosion() -> None:
    usual = [1.0 + 0.1 * (step % 3) for step in range(50)]
    assert fired(of("train/grad_norm", [*usual, 50.0, *usual])) == []
    (rule, firing), = fired(of("train/grad_norm", [*usual, 50.0, 1.0, 60.0, 70.0]))  # fmt: skip
    assert rule == "gradient"
    assert firing.value == 70.0


def test_a_loss_that_stays_is_a_plateau_and_one_that_falls_is_none() -> None:
    choice = WatchChoice.model_validate({"plateau": {"window": 50, "improvement": 0.02}})
    rng = random.Random(3)
    falling = [3 * 0.95 ** (step / 50) * (1 + rng.gauss(0, 0.01)) for step in range(400)]
    staying = [falling[-1] * (1 + rng.gauss(0, 0.01)) for _ in range(150)]
    assert fired(of("train/loss", falling), choice) == []
    found = fired(of("train/loss", falling + staying), choice)
    assert [rule for rule, _ in found] == ["plateau"]
    assert found[0][1].step > 400


def test_a_held_out_loss_that_rises_while_the_training_loss_falls_is_an_overfit() -> None:
    points: list[tuple[str, float]] = []
    for number, held_out in enumerate([2.0, 1.8, 1.7, 1.75, 1.8, 1.9, 2.0]):
        points += [*of("train/loss", [2.0 - 0.1 * number] * 25), ("eval/loss", held_out)]
    (rule, firing), = fired(points)  # fmt: skip
    assert rule == "overfit"
    assert firing.value == 1.9
    assert "1.7 at step 75" in firing.words


def test_a_held_out_loss_that_rises_with_the_training_loss_is_no_overfit() -> None:
    points: list[tuple[str, float]] = []
    for number, held_out in enumerate([1.7, 1.75, 1.8, 1.85]):
        points += [*of("train/loss", [2.0 + 0.01 * number] * 25), ("eval/loss", held_out)]
    assert fired(points) == []


def test_steps_that_wait_for_data_are_a_stall() -> None:
    (rule, firing), = fired(of("perf/data_wait_fraction", [0.1] * 30 + [0.8] * 30))  # fmt: skip
    assert rule == "data_stall"
    assert firing.value > 0.5


def test_a_gradient_of_zero_and_an_adapter_that_does_not_move_are_frozen() -> None:
    assert [rule for rule, _ in fired(of("train/grad_norm", [0.0] * 8))] == ["frozen"]
    still = of("train/adapter_norm", [1.5] * 30)
    assert [rule for rule, _ in fired([("train/learning_rate", 1e-4), *still])] == ["frozen"]
    assert fired([("train/learning_rate", 0.0), *still]) == [], "without a rate nothing has to move"


def test_rewards_that_are_all_equal_for_a_while_are_no_fault_and_for_long_they_are_named() -> None:
    rewarded = Facts(rewards=True)
    points = [point for _ in range(40) for point in (("train/loss", 0.0), ("train/grad_norm", 0.0))]
    assert fired(points[:38], facts=rewarded) == []
    (rule, firing), = fired(points, facts=rewarded)  # fmt: skip
    assert (rule, firing.step) == ("frozen", 20)
    assert "do all answers of a prompt earn the same?" in firing.words


@pytest.mark.parametrize("after", [0.02, -0.02])
def test_a_loss_of_nothing_but_zeros_is_judged_by_no_rule_of_rises(after: float) -> None:
    # As grpo tells it until the first answer earns more than its neighbours.
    assert fired(of("train/loss", [0.0] * 120 + [after] + [0.0] * 60), facts=Facts()) == []


@pytest.mark.parametrize(("first", "words"), [(12.0, "worse than guessing"), (0.001, "absurdly low")])
def test_a_first_loss_that_cannot_be_is_told_at_once(first: float, words: str) -> None:
    (rule, firing), = fired(of("train/loss", [first, 2.0, 1.9]))  # fmt: skip
    assert rule == "first_loss"
    assert firing.step == 1
    assert words in firing.words


def test_the_first_loss_of_a_run_whose_loss_is_no_tokens_is_not_judged() -> None:
    assert fired(of("train/loss", [0.0, 0.001, 0.0]), facts=Facts(vocabulary=1000)) == []


def test_silence_fires_once_at_its_share_of_the_limit_and_again_after_a_word() -> None:
    hang = Hang(0.5, 100.0)
    hang.record(7, 1000.0)
    assert hang.silent(49, 1049.0) is None
    firing = hang.silent(51, 1051.0)
    assert firing is not None
    assert firing.step == 7
    assert "at 100 s it is ended" in firing.words
    assert hang.silent(60, 1060.0) is None
    assert hang.silent(0, 1061.0) is None
    assert hang.silent(55, 1120.0) is not None


def test_without_a_limit_silence_is_measured_by_the_usual_pause() -> None:
    hang = Hang(0.5, None)
    assert hang.threshold is None
    assert hang.silent(10_000, 0.0) is None, "it has reported nothing yet: it may never do"
    for step in range(5):
        hang.record(step, 100.0 * step)
    assert hang.threshold == 3000.0


def test_a_rule_that_is_off_says_nothing_and_is_not_shown() -> None:
    choice = WatchChoice.model_validate({"not_finite": {"action": "off"}})
    assert fired(of("train/loss", [math.nan] * 3), choice) == []
    assert set(RULES) - set(Panel(choice, FACTS).looks()) == {"not_finite"}


def test_a_rule_that_fires_without_end_falls_silent() -> None:
    spikes = [value for _ in range(MOST_FIRINGS + 10) for value in [*losses(60, level=1.0), math.nan]]
    assert len([rule for rule, _ in fired(of("train/loss", spikes)) if rule == "not_finite"]) == MOST_FIRINGS


def test_the_loss_of_a_program_of_the_users_is_known_by_its_usual_names() -> None:
    assert [rule for rule, _ in fired(of("loss", [math.nan]))] == ["not_finite"]
    assert fired(of("loss_of_patience", [math.nan])) == []


def test_the_median_and_the_spread_are_those_of_the_newest_values() -> None:
    rng, usual = random.Random(5), Usual(100)
    for _ in range(300):
        usual.add(rng.gauss(50, 9))
    for _ in range(1000):
        usual.add(rng.gauss(3, 2))
    assert len(usual) == 100
    assert usual.median == pytest.approx(3, abs=0.8)
    assert usual.spread == pytest.approx(2, abs=0.6)


def test_the_same_points_give_the_same_firings() -> None:
    points = of("train/loss", [*losses(300), *[9.0] * 40, math.nan])
    assert [(rule, firing.step, firing.words) for rule, firing in fired(points)] == [
        (rule, firing.step, firing.words) for rule, firing in fired(points)
    ]
