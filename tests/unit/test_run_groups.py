"""Runs over seeds put together: means, intervals, what is refused and what is said to be doubtful."""

from __future__ import annotations

import csv
import io
import random

import pytest

from llmops_tui.commands.grouped_text import footnote, grouped_csv, grouped_markdown, rows
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Comparison, DifferenceRow, MetricRow, Scalar
from llmops_tui.specs.run_groups import best_group, group, keys_to_group_by, mean_of
from tests.tui.fake import summary


def comparison(config: dict[str, list[Scalar]], metrics: dict[str, list[float | None]]) -> Comparison:
    count = len(next(iter(config.values())))
    return Comparison(
        runs=[summary(f"train-a-{number:04d}", "succeeded") for number in range(1, count + 1)],
        config=[DifferenceRow(key=key, values=values, differs=len(set(map(repr, values))) > 1) for key, values in config.items()],
        data=[],
        environment=[],
        metrics=[MetricRow(metric=name, last=values, minimum=values, maximum=values) for name, values in metrics.items()],
    )


SEEDS = comparison(
    {"optim.learning_rate": [2e-4, 1e-4, 2e-4, 1e-4, 1e-4], "seed": [0, 0, 1, 1, 2], "lora.r": [8, 8, 8, 8, 16]},
    {"eval/loss": [1.0, 2.0, 1.1, 2.1, 2.2], "eval/accuracy": [0.9, None, None, None, 0.5], "odd": [1.0, 2.0, 3.0, 4.0, 5.0]},
)


def test_a_group_is_told_as_mean_and_interval_and_the_better_one_is_marked_only_beyond_it() -> None:
    found = group(SEEDS, "cfg.optim.learning_rate")
    assert [(one.value, one.runs) for one in found.groups] == [(1e-4, [1, 3, 4]), (2e-4, [0, 2])]
    assert found.means["eval/loss"][0] == pytest.approx((2.1, 4.3027 * 0.1 / 3**0.5, 3))
    assert next(rows(found)) == ("eval/loss", ["2.1 ± 0.25", "1.05 ± 0.64"], 1)
    assert [best for _, _, best in rows(found)][1:] == [None, None]  # lone runs have no interval; of `odd` no side is the better one
    assert found.loose == ["lora.r"]
    assert "lora.r" in footnote(found)
    close = comparison({"a": [1, 1, 2, 2]}, {"eval/loss": [1.0, 2.0, 1.1, 2.1]})
    assert best_group("eval/loss", group(close, "a").means["eval/loss"]) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    dice = random.Random(0)
    held = 0
    for _ in range(4000):
        told = mean_of([dice.gauss(3.0, 0.5) for _ in range(4)])
        assert told is not None
        assert told.half is not None
        held += abs(told.mean - 3.0) <= told.half
    assert 0.935 < held / 4000 < 0.965


def test_the_key_may_be_short_and_a_wrong_one_is_refused_with_those_that_help() -> None:
    assert group(SEEDS, "learning_rate").key == "optim.learning_rate"
    assert keys_to_group_by(SEEDS) == ["optim.learning_rate", "lora.r"]
    with pytest.raises(UsageError, match="setting of none") as refused:
        group(SEEDS, "temperature")
    assert "optim.learning_rate, lora.r" in refused.value.next_step
    twice = comparison({"a.x": [1, 2], "b.x": [1, 1]}, {})
    with pytest.raises(UsageError, match="end of several"):
        group(twice, "x")


def test_markdown_and_csv_hold_the_same() -> None:
    found = group(SEEDS, "optim.learning_rate")
    assert "| `eval/loss` | 2.1 ± 0.25 | **1.05 ± 0.64** |" in grouped_markdown(found)
    table = list(csv.DictReader(io.StringIO(grouped_csv(found))))
    assert [(row["optim.learning_rate"], row["runs"]) for row in table if row["metric"] == "eval/accuracy"] == [
        ("0.0001", "1"),
        ("0.0002", "1"),
    ]
    assert float(table[0]["half_interval_95"]) == pytest.approx(0.2484, abs=1e-3)
