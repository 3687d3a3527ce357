"""What is made of the times: definitions, intervals, and a comparison that seldom cries wolf."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llmops_tui.engine.jobs.loadtesting.asking import Outcome
from llmops_tui.engine.jobs.loadtesting.comparing import FALSE_ALARMS, compare, what_differs
from llmops_tui.engine.jobs.loadtesting.figures import distribution, is_good, resampled_quantiles, stage_report, times_of
from llmops_tui.specs.endpoint import Slo


def outcome(number: int, due: float, first: float, gaps: tuple[float, ...], waited: float = 0.0, **more: object) -> Outcome:
    sent = due + waited
    last = sent + first + sum(gaps)
    return Outcome(number, due, sent, sent + first, last, last, 200, "", 10, len(gaps) + 1, "usage", gaps, **more)  # type: ignore[arg-type]


def test_a_request_that_had_to_wait_for_its_turn_has_waited() -> None:
    times = times_of([outcome(0, 100.0, 0.1, (0.05, 0.05), waited=2.0)])
    assert times.ttft.tolist() == pytest.approx([2100.0])
    assert times.tpot.tolist() == pytest.approx([50.0])
    assert times.e2e.tolist() == pytest.approx([2200.0])
    assert times.itl.tolist() == pytest.approx([50.0, 50.0])


def test_failures_and_what_was_given_up_are_counted_and_have_no_times() -> None:
    broken = Outcome(1, 1.0, 1.0, end=1.5, status=500, error="500: no")
    left = Outcome(2, 1.0, 1.0, end=2.0, given_up=True)
    report = stage_report([outcome(0, 0.0, 0.1, (0.1,)), broken, left], 0.0, 2.0, Slo(), 0)
    assert (report["requests"], report["completed"], report["failed"], report["given_up"]) == (3, 1, 1, 1)
    assert report["errors"] == {"500: no": 1}
    assert report["requests_per_second"] == 0.5
    assert report["output_tokens_per_second"] == 1.0
    assert report["goodput_requests_per_second"] is None
    assert report["ttft_ms"]["p50"] == pytest.approx(100.0)


def test_goodput_counts_what_kept_to_every_part_of_the_slo() -> None:
    slo = Slo(ttft_ms=150, itl_ms=60, total_ms=400)
    assert is_good(outcome(0, 0.0, 0.1, (0.05, 0.05)), slo)
    assert not is_good(outcome(0, 0.0, 0.1, (0.05, 0.05), waited=0.1), slo)
    assert not is_good(outcome(0, 0.0, 0.1, (0.1, 0.1)), slo)
    assert not is_good(outcome(0, 0.0, 0.1, (0.05,) * 8), slo)
    assert not is_good(Outcome(0, 0.0, error="x"), Slo())
    report = stage_report([outcome(n, n, 0.1 if n % 4 else 0.3, (0.05,)) for n in range(100)], 0.0, 50.0, slo, 0)
    assert report["good_fraction"] == 0.75
    assert report["goodput_requests_per_second"] == 1.5


def test_quantiles_are_the_exact_ones_and_their_interval_holds_the_truth() -> None:
    values = np.random.default_rng(3).exponential(100.0, 400)
    found = distribution(values, 0)
    assert found is not None
    assert found["p95"] == pytest.approx(float(np.quantile(values, 0.95)), abs=0.001)
    inside = 0
    for seed in range(100):
        drawn = distribution(np.random.default_rng(seed).exponential(100.0, 200), seed)
        assert drawn is not None
        inside += drawn["p50_low"] <= 100.0 * np.log(2) <= drawn["p50_high"]
    assert inside >= 88  # 95 % of 100, less three standard deviations
    assert distribution(np.asarray([]), 0) is None


def samples(rng: np.random.Generator, scale: float, count: int = 100) -> dict[str, dict[str, list[float]]]:
    return {
        f"{workers} at once": {name: (scale * rng.lognormal(3.0, 0.3, count)).tolist() for name in ("ttft_ms", "tpot_ms", "e2e_ms")}
        for workers in (1, 4)
    }


def test_of_healthy_tests_at_most_the_stated_share_is_called_slower() -> None:
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        one = {"1 at once": samples(rng, 1.0)["1 at once"]}
        alarms += compare(one, {"1 at once": samples(rng, 1.0)["1 at once"]}, 0.0, seed)["verdict"] == "slower"
    assert alarms <= 100 * FALSE_ALARMS + 3 * (100 * FALSE_ALARMS) ** 0.5


def test_a_slower_server_is_found_and_a_faster_one_too() -> None:
    rng = np.random.default_rng(5)
    before = samples(rng, 1.0, 200)
    slower = compare(samples(rng, 1.3, 200), before, 0.05, 0)
    assert slower["verdict"] == "slower"
    assert all(row["low"] > 1.05 for row in slower["rows"] if row["verdict"] == "slower")
    assert compare(samples(rng, 0.7, 200), before, 0.05, 0)["verdict"] == "faster"
    assert compare(samples(rng, 1.0, 2000), samples(rng, 1.0, 2000), 0.1, 0)["verdict"] == "same"


def test_too_few_requests_say_that_more_are_needed() -> None:
    rng = np.random.default_rng(5)
    assert compare(samples(rng, 1.3, 10), samples(rng, 1.0, 10), 0.05, 0)["verdict"] == "unclear"
    assert compare({"1 at once": {"ttft_ms": [1.0] * 50}}, {}, 0.05, 0) == {
        "verdict": "unclear", "tolerance": 0.05, "rows": [],
        "interval": "99 % each, so that at most 1% of healthy tests are called slower",
    }  # fmt: skip


def test_what_else_changed_is_named() -> None:
    now = {"model": "m@v2", "runtime": "vllm", "runtime_version": "0.33", "hardware": "1 × H200"}
    assert what_differs(now, {**now, "runtime_version": "0.32"}) == ["runtime_version 0.32 → 0.33"]
    assert what_differs(now, now) == []


def test_very_many_requests_take_little_memory() -> None:
    values = np.random.default_rng(1).exponential(100.0, 300_000)
    drawn = resampled_quantiles(values, (0.5,), 0)
    assert drawn.shape == (1, 200)
    assert drawn.std() == pytest.approx(100.0 / len(values) ** 0.5, rel=0.3)  # of an exponential's median, sqrt(p(1-p)/n)/f


def test_neighbours_that_share_their_luck_widen_the_interval() -> None:
    dice, level, values = random.Random(1), 100.0, []
    for _ in range(400):
        level = 0.97 * level + 0.03 * 100 + dice.gauss(0, 3)
        values.append(level)
    apart = values[:]
    dice.shuffle(apart)
    together, shuffled = distribution(np.asarray(values), 0), distribution(np.asarray(apart), 0)
    assert together is not None
    assert shuffled is not None
    assert together["p50_high"] - together["p50_low"] > 1.5 * (shuffled["p50_high"] - shuffled["p50_low"])
