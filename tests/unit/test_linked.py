"""Charts on one stretch of time: what goes into them, where the spike is, and how many fit."""

from __future__ import annotations

import math

import pytest

from llmops_tui.screens.linked import chart_rows, history_groups, spike, time_span
from llmops_tui.screens.widgets.chart_view import Span
from llmops_tui.screens.widgets.crosshair import CrosshairGroup
from llmops_tui.screens.widgets.curve import TIME, Curve
from llmops_tui.specs.answers import HostHistory

T = 1_750_000_000.0


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.moments: list[float | None] = []
        self.windows: list[Span | None] = []

    def share_moment(self, moment: float | None, /) -> None:
        self.moments.append(moment)

    def share_window(self, window: Span | None, /) -> None:
        self.windows.append(window)


def history(gpus: int) -> HostHistory:
    series: dict[str, list[float | None]] = {"host/cpu": [0.5] * 20, "host/memory_used_bytes": [2.0**31] * 20}
    for index in range(gpus):
        series[f"gpu/{index}/power_watts"] = [300.0, None] * 10
        series[f"gpu/{index}/utilisation"] = [0.9] * 20
        series[f"gpu/{index}/memory_used_bytes"] = [60.0 * 2**30] * 20
    return {"t": [T + n + (500 if n >= 10 else 0) for n in range(20)], "series": series}


def test_power_load_and_memory_share_a_chart_each_by_unit() -> None:
    groups = history_groups(history(2))
    assert [(group.title, [curve.name for curve in group.curves]) for group in groups] == [
        ("power", ["GPU0 W", "GPU1 W"]),
        ("load", ["GPU0 %", "GPU1 %", "host %"]),
        ("memory", ["GPU0 GiB", "GPU1 GiB", "host GiB"]),
    ]
    load, memory = groups[1].curves, groups[2].curves
    assert (load[0].final, load[2].final, memory[0].final, memory[2].final) == (90.0, 50.0, 60.0, 2.0)
    assert [group.title for group in history_groups(history(0))] == ["load", "memory"]
    assert [curve.name for curve in history_groups(history(4), gpus=(2,))[0].curves] == ["GPU2 W"]
    assert len(history_groups(history(12))[1].curves) == 8, "as many curves as there are colours"


def test_where_nobody_sampled_the_history_has_a_gap() -> None:
    curve = history_groups(history(0))[0].curves[0]
    assert curve.axis == TIME
    assert curve.pieces == ((0, 10), (10, 20))


def test_the_spike_is_what_stands_highest_above_the_points_before_it() -> None:
    falling = [10.0 * math.exp(-n / 50) for n in range(200)]
    falling[120] += 3.0
    assert spike(Curve.from_points("loss", range(200), falling)) == 120
    assert spike(Curve.from_points("loss", range(50), [float(-n) for n in range(50)])) is None
    assert spike(Curve.from_points("loss", [], [])) is None


def test_a_crosshair_moved_in_one_chart_moves_in_all_others() -> None:
    group, one, two = CrosshairGroup(), Listener(), Listener()
    group.join(one)
    group.join(two)
    group.move(one, T)
    group.frame(two, (T, T + 9))
    assert (one.moments, two.moments) == ([], [T])
    assert (one.windows, two.windows) == ([(T, T + 9)], [])
    late = Listener()
    group.join(late)
    assert (late.moments, late.windows) == ([T], [(T, T + 9)]), "who comes later is told what is so"
    group.leave(two)
    group.move(None, None)
    assert (one.moments, two.moments) == ([None], [T])


@pytest.mark.parametrize("rows", range(60))
@pytest.mark.parametrize("count", range(1, 7))
def test_the_charts_fill_the_rows_and_none_is_too_small_to_read(count: int, rows: int) -> None:
    heights = chart_rows(count, rows)
    assert sum(heights) == rows - (len(heights) < count)
    if len(heights) > 1:
        assert heights[0] >= 8
        assert min(heights[1:]) >= 4
    if rows >= 8 + 4 * (count - 1) + 2:
        assert len(heights) == count


def test_the_span_of_time_is_that_of_the_curves_that_know_it() -> None:
    loss = Curve.from_buckets("loss", [[n, n, 1, 1.0, 1.0, 1.0, 1.0, T + n] for n in range(5)])
    assert time_span([loss, Curve.from_points("x", [0, 1], [1.0, 2.0])]) == (T, T + 4)
    assert time_span([Curve.from_points("x", [0, 1], [1.0, 2.0])]) is None
