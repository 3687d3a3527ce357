"""Curves from buckets and points: gaps, axes, readings, and finer buckets in the middle of coarse ones."""

from __future__ import annotations

import math

from llmops_tui.screens.widgets.curve import ELAPSED, NUMBER, STEP, TIME, Curve, spliced, step_of_time, time_of_step

T = 1_750_000_000.0


def bucket(first: float, final: float, low: float | None, high: float | None = None, t: float | None = None) -> list[float | None]:
    high = low if high is None else high
    mean = None if low is None or high is None else (low + high) / 2
    return [first, final, final - first + 1, low, high, mean, high, T + 10 * final if t is None else t]


def test_x_is_the_middle_of_a_buckets_steps_or_the_time_of_its_last_point() -> None:
    curve = Curve.from_buckets("loss", [bucket(0, 9, 3.0, 4.0), bucket(10, 19, 2.0, 3.0)])
    assert list(curve.x) == [4.5, 14.5]
    assert list(curve.on(TIME).x) == [T + 90, T + 190]
    assert list(curve.on(ELAPSED, T).x) == [90, 190]
    assert list(curve.on(TIME).on(STEP).x) == [4.5, 14.5]
    assert curve.axes() == (STEP, TIME, ELAPSED)


def test_elapsed_time_begins_at_the_runs_own_start_where_it_is_known() -> None:
    late = Curve.from_buckets("late", [bucket(0, 0, 1.0, t=T + 500)], origin=T + 400)
    assert list(late.on(ELAPSED, T).x) == [100]


def test_a_retried_run_goes_back_some_steps_but_not_in_time() -> None:
    curve = Curve.from_buckets("loss", [bucket(1, 1, 4.0, t=T), bucket(2, 2, 3.0, t=T + 90), bucket(3, 3, 2.0, t=T + 50)])
    assert list(curve.on(TIME).x) == [T, T + 50, T + 90]
    assert list(curve.on(TIME).low) == [4.0, 2.0, 3.0]
    assert time_of_step(curve, 3) == T + 90, "the clock of a step never runs backwards"


def test_nan_infinity_and_none_are_gaps_that_are_counted() -> None:
    curve = Curve.from_points("a", [0, 1, 2, 3, 4, 5], [1.0, math.nan, 2.0, math.inf, None, 3.0])
    assert curve.pieces == ((0, 1), (1, 2), (2, 3))
    assert curve.gaps == (1, 3, 4)
    assert curve.final == 3.0
    assert Curve.from_points("a", [0, 1], [1.0, math.nan]).final is None
    assert Curve.from_points("a", [], []).x == []


def test_points_out_of_order_are_put_in_their_place() -> None:
    curve = Curve.from_points("a", [3.0, 1.0, 2.0, math.nan], [30.0, 10.0, 20.0, 0.0], NUMBER)
    assert (list(curve.x), list(curve.last)) == ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])


def test_a_hundred_thousand_points_without_a_gap_are_one_piece() -> None:
    buckets = [[n, n, 1, 1.0 + n, 1.0 + n, 1.0 + n, 1.0 + n, T + n] for n in range(100_000)]
    curve = Curve.from_buckets("loss", buckets)
    assert curve.pieces == ((0, 100_000),)
    assert (curve.x[-1], curve.final) == (99_999, 100_000.0)


def test_a_reading_is_the_value_at_the_place_with_the_range_around_it() -> None:
    curve = Curve.from_points("a", range(10), [1.0, 2.0, 9.0, 3.0, 1.0, 1.0, math.nan, 1.0, 1.0, 1.0])
    here = curve.read(2.0, 3.0)
    assert here is not None
    assert (here.value, here.low, here.high) == (3.0, 2.0, 9.0), "a spike next to the crosshair is told"
    between = curve.read(4.5)
    assert between is not None
    assert between.value == 1.0
    hole = curve.read(6.0)
    assert hole is not None
    assert math.isnan(hole.value)
    assert curve.read(-1.0) is None
    assert curve.read(50.0) is None, "the curve of a shorter run says nothing about later steps"


def test_a_rare_metric_keeps_its_last_value_until_the_next_is_due() -> None:
    evaluation = Curve.from_points("eval/loss", [40, 80], [2.0, 1.5])
    after = evaluation.read(95.0)
    assert after is not None
    assert after.value == 1.5


def test_the_average_begins_without_bias() -> None:
    steady = Curve.from_points("a", range(5), [3.0] * 5).smoothed(0.9)
    assert all(math.isclose(value, 3.0) for value in steady.last)
    step = Curve.from_points("a", range(3), [0.0, 1.0, 1.0]).smoothed(0.5)
    assert [round(value, 4) for value in step.last] == [0.0, 0.6667, 0.8571]


def test_finer_buckets_take_the_middle_and_nothing_around_is_lost() -> None:
    whole = Curve.from_buckets("loss", [bucket(n, n + 9, 1.0, 5.0) for n in range(0, 100, 10)])
    fine = Curve.from_buckets("loss", [bucket(n, n, 2.0) for n in range(35, 56)])
    both = spliced(whole, fine)
    assert list(both.x) == sorted(both.x)
    assert {35.0, 45.0, 55.0} <= set(both.x)
    covered = {step for b in both.buckets for step in range(int(b[0] or 0), int(b[1] or 0) + 1)}
    assert covered == set(range(100))
    assert sum(b in whole.buckets for b in both.buckets) == 9, "only the bucket that lies wholly in the finer ones goes"


def test_a_step_and_its_moment_are_told_by_the_same_clock() -> None:
    curve = Curve.from_buckets("loss", [bucket(n, n, 1.0) for n in range(0, 100, 10)])
    assert time_of_step(curve, 45) == T + 450
    assert step_of_time(curve, T + 450) == 45
    assert step_of_time(curve, T - 999) == 0
    assert time_of_step(Curve.from_points("a", [1], [1.0]), 1) is None
