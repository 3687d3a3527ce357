"""Slower than yesterday is said when it is so, and hardly ever when it is not."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from llmops_tui.screens.serve_verdict import Stretch, chance_of_larger, compare, leading, stretch_of
from llmops_tui.specs.answers_requests import LatencyHistory, LatencyPoint


def hour(p95: float, noise: float = 0.05, requests: int = 1000, seed: int = 0, parts: int = 12) -> Stretch:
    dice = random.Random(seed)
    return Stretch(
        requests, 0, {"ttft": p95, "total": None}, {"ttft": tuple(p95 * dice.gauss(1, noise) for _ in range(parts)), "total": ()}
    )


def test_a_third_slower_is_told_with_its_size_and_chance() -> None:
    found = compare("v3", hour(160, seed=1), hour(120, seed=2), "yesterday")
    assert found.word == "slower"
    assert found.change == pytest.approx(1 / 3)
    assert found.chance is not None
    assert found.chance < 0.01


def test_faster_is_told_too() -> None:
    assert compare("v3", hour(80, seed=1), hour(120, seed=2), "yesterday").word == "faster"


def test_a_change_too_small_to_matter_is_none_however_sure() -> None:
    assert compare("v3", hour(123, noise=0.001, seed=1), hour(120, noise=0.001, seed=2), "yesterday").word == "same"


def test_few_requests_prove_nothing() -> None:
    assert compare("v3", hour(900, requests=12), hour(100), "yesterday").word == "few"
    assert compare("v3", hour(900, parts=3), hour(100), "yesterday").word == "few"


def test_nothing_to_compare_with_is_said() -> None:
    empty = Stretch(0, 0, {"ttft": None, "total": None}, {"ttft": (), "total": ()})
    for now, then in ((None, None), (hour(1), None), (hour(1), empty), (empty, hour(1))):
        assert compare("v3", now, then, "yesterday").word == "unknown"


def test_without_streams_the_whole_answer_is_compared() -> None:
    def whole(p95: float, seed: int) -> Stretch:
        dice = random.Random(seed)
        return Stretch(500, 0, {"ttft": None, "total": p95}, {"ttft": (), "total": tuple(p95 * dice.gauss(1, 0.05) for _ in range(12))})

    found = compare("v3", whole(3000, 1), whole(2000, 2), "yesterday")
    assert (found.word, found.quantity) == ("slower", "total")


def test_the_false_alarm_rate_is_as_stated() -> None:
    """1 in 100 looks: of 3,000 with nothing changed at most 57 (binomial, 5 σ)."""
    dice = random.Random(7)
    alarms = sum(chance_of_larger([dice.random() for _ in range(12)], [dice.random() for _ in range(12)]) < 0.01 for _ in range(3000))
    assert 5 < alarms < 30 + 5 * (3000 * 0.01 * 0.99) ** 0.5


@pytest.mark.parametrize(("n", "m"), [(4, 5), (6, 6), (3, 7)])
def test_the_chance_is_that_of_counting_every_order(n: int, m: int) -> None:
    dice = random.Random(n * m)
    every = [dice.random() for _ in range(n + m)]

    def wins(ours: list[float], theirs: list[float]) -> int:
        return sum(a > b for a in ours for b in theirs)

    seen = wins(every[:n], every[n:])
    orders = list(combinations(range(n + m), n))
    as_many = sum(wins([every[at] for at in chosen], [every[at] for at in range(n + m) if at not in chosen]) >= seen for chosen in orders)
    assert chance_of_larger(every[:n], every[n:]) == pytest.approx(as_many / len(orders))


def test_ties_are_no_proof() -> None:
    assert chance_of_larger([5.0] * 12, [5.0] * 12) == 1.0
    assert chance_of_larger([5.0] * 11 + [6.0], [5.0] * 12) > 0.05


def point(t: float, requests: int, p95: float | None) -> LatencyPoint:
    values = {f"{name}_{rank}": None for name in ("ttft", "itl", "total", "queue") for rank in ("p50", "p95", "p99")}
    return {"t": t, "requests": requests, "errors": 1, "good": 0, "completion_tokens": 0, "prompt_tokens": 0, **values, "ttft_p95": p95}  # type: ignore[typeddict-item]


def test_an_hour_is_read_of_the_version_that_answered_most() -> None:
    whole: LatencyHistory = {
        "endpoint": "e", "since": 0.0, "until": 3600.0, "seconds": 3600.0,
        "versions": {"v1": [point(0, 10, 50.0)], "v2": [point(0, 3, 900.0), point(3600, 90, 120.0)]},
    }  # fmt: skip
    assert leading(whole) == "v2"
    found = stretch_of(whole, whole, "v2")
    assert (found.requests, found.errors, found.p95["ttft"], found.parts["ttft"]) == (93, 2, 120.0, (900.0, 120.0))
    assert leading({**whole, "versions": {}}) == ""
