"""Energy between readings, whose it is, what it costs: the maths without a GPU."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llmops_tui.data.usage import Usage
from llmops_tui.engine.energy import Hold, Reading, drawn, reading_from_json, share
from llmops_tui.engine.tariff import Tariff


def told(t: float, joules: float | None = None, watts: float | None = None) -> Reading:
    return Reading(t, joules, watts)


def test_the_counter_is_believed_before_the_power() -> None:
    assert drawn(told(0, 1000, 100), told(10, 1500, 900)) == 500


def test_the_counter_covers_a_gap_in_which_nobody_looked() -> None:
    assert drawn(told(0, 1000), told(7200, 2_161_000)) == 2_160_000


def test_a_counter_that_began_again_counts_from_its_beginning() -> None:
    assert drawn(told(0, 7_000_000), told(60, 900)) == 900


def test_a_counter_that_tells_nonsense_is_not_charged() -> None:
    assert drawn(told(0, 1000, 200), told(1, 9e12, 400)) == 300  # one second at 300 W
    assert drawn(told(0, 1000), told(1, 9e12)) is None


def test_without_a_counter_power_is_integrated_over_short_gaps_only() -> None:
    assert drawn(told(0, None, 100), told(2, None, 300)) == 400
    assert drawn(told(0, None, 100), told(3600, None, 300)) is None


def test_without_either_nothing_is_known() -> None:
    assert drawn(told(0), told(1)) is None
    assert drawn(told(0, 5.0), told(1)) is None


def test_a_clock_that_was_set_back_costs_nothing() -> None:
    assert drawn(told(100, None, 100), told(50, None, 100)) == 0
    alone = Hold("a", ["G"], since=60)
    assert share(alone, [alone], 100, 50) == 1.0


def test_a_run_alone_pays_for_its_time_only() -> None:
    late = Hold("a", ["G"], since=5)
    assert share(late, [late], 0, 10) == 0.5
    over = Hold("b", ["G"], since=-100, until=2.5)
    assert share(over, [over], 0, 10) == 0.25


def test_runs_share_as_they_share_the_memory_and_equally_without_figures() -> None:
    small, large = Hold("a", ["G"], 0, weight=1), Hold("b", ["G"], 0, weight=3)
    assert (share(small, [small, large], 10, 20), share(large, [small, large], 10, 20)) == (0.25, 0.75)
    free = Hold("c", ["G"], 0)
    assert share(small, [small, free], 10, 20) == 0.5


def test_one_that_ended_in_the_gap_leaves_the_rest_to_the_other() -> None:
    ended, stays = Hold("a", ["G"], 0, until=40), Hold("b", ["G"], 0)
    assert share(ended, [ended, stays], 0, 100) == pytest.approx(0.2)
    assert share(stays, [ended, stays], 0, 100) == pytest.approx(0.8)


def test_what_is_handed_out_is_what_was_drawn_however_runs_come_and_go() -> None:
    """Random holders over random readings: no joule is charged twice, and none is lost while somebody holds the GPU all the time."""
    random_ = random.Random(7)
    for _ in range(200):
        floor = Hold("floor", ["G"], 0.0, weight=random_.choice([None, 5]))
        others = [
            Hold(f"r{n}", ["G"], (since := random_.uniform(0, 90)), since + random_.uniform(0, 30), random_.choice([None, 1, 2]))
            for n in range(random_.randrange(4))
        ]
        holds = [floor, *others]
        times = sorted({0.0, *(random_.uniform(0, 100) for _ in range(6)), 130.0})
        counter = 500.0
        for t in times:
            counter += random_.uniform(0, 300) if t else 0.0
            for hold in holds:
                hold.advance("G", told(t, counter), holds)
        assert sum(hold.joules or 0 for hold in holds) == pytest.approx(counter - 500.0)


def test_a_reading_survives_its_file_and_rubbish_is_no_reading() -> None:
    assert reading_from_json(told(1.5, None, 3.0).to_json()) == told(1.5, None, 3.0)
    for rubbish in (None, 7, {}, {"t": "soon"}, {"t": True}, []):
        assert reading_from_json(rubbish) is None


def test_a_tariff_charges_electricity_and_time_and_says_nothing_where_it_knows_nothing() -> None:
    assert Tariff(0.30, 2.0).cost(3600, 3.6e6) == pytest.approx(2.30)
    assert Tariff(0, 2.0).cost(1800, None) == 1.0
    assert Tariff(0.30, 0).cost(3600, None) is None  # its energy has a price and is not known
    assert Tariff().cost(3600, 3.6e6) is None
    assert Tariff(0.30, 2.0).cost(0.0, None) is None  # a run without a GPU


def entry(state: str, t: float, **data: Any) -> dict[str, Any]:
    return {"entry": "state", "state": state, "t": t, "data": data}


def folded(*entries: dict[str, Any]) -> Usage:
    usage = Usage()
    for each in entries:
        usage.apply(each)
    return usage


def test_a_journal_tells_the_sums_of_all_attempts() -> None:
    usage = folded(
        entry("starting", 100, gpus=["A", "B"], held_since=99.0, counters={"A": {"t": 98}}),
        entry("running", 101),
        entry("queued", 161, gpu_seconds=120.0, energy_joules=500.0),
        entry("starting", 200, gpus=["A"], held_since=200.0),
    )
    assert (usage.gpu_seconds, usage.energy_joules, usage.held_since, usage.gpus) == (120.0, 500.0, 200.0, 1)
    assert usage.gpu_seconds_at(230.0) == 150.0
    usage.apply(entry("succeeded", 260, ended_at=250.0, gpu_seconds=170.0, energy_joules=900.0))
    assert (usage.gpu_seconds_at(1e9), usage.joules) == (170.0, 900.0)


def test_a_journal_of_before_the_meter_still_tells_gpu_time() -> None:
    usage = folded(entry("starting", 100, gpus=["A", "B"]), entry("succeeded", 190, ended_at=160.0))
    assert (usage.gpu_seconds, usage.joules) == (120.0, None)


def test_a_run_on_the_cpu_uses_no_gpu_and_nonsense_in_a_journal_is_passed_over() -> None:
    usage = folded(
        entry("starting", 1, gpus=[]), {"entry": "state", "state": "starting"}, {"entry": 7}, entry("failed", 9, gpu_seconds="x")
    )
    assert (usage.gpu_seconds, usage.joules, usage.held_since) == (0.0, None, None)
