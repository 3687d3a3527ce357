"""The view of a chart: windows that stay inside, a crosshair that moves, and a state that JSON keeps."""

from __future__ import annotations

import random

import pytest

from llmops_tui.screens.widgets.chart_view import ChartView

EXTENT = (0.0, 1000.0)


def test_zooming_keeps_the_crosshair_where_it_is_on_the_screen() -> None:
    view = ChartView(crosshair=250.0).zoomed(0.5, EXTENT)
    assert view.window == (125.0, 625.0)
    assert view.zoomed(2.0, EXTENT).window is None, "zoomed out again is everything"
    assert ChartView().zoomed(0.5, EXTENT).window == (250.0, 750.0), "without a crosshair the middle"
    assert ChartView().zoomed(0.5, EXTENT, around=1000.0).window == (500.0, 1000.0)


@pytest.mark.parametrize("seed", range(20))
def test_no_sequence_of_zooms_and_pans_leaves_the_curve(seed: int) -> None:
    rng = random.Random(seed)
    view = ChartView()
    for _ in range(200):
        step = rng.randrange(5)
        if step == 0:
            view = view.zoomed(rng.choice((0.5, 2.0, 0.8, 1.25)), EXTENT, 4.0)
        elif step == 1:
            view = view.panned(rng.choice((-0.25, 0.25, -5.0, 5.0)), EXTENT)
        elif step == 2:
            view = view.selected(rng.uniform(-100, 1100), rng.uniform(-100, 1100), EXTENT, 4.0)
        elif step == 3:
            view = view.crossed(rng.uniform(-300, 300), EXTENT, whole=rng.random() < 0.5)
        else:
            view = view.followed(EXTENT)
        low, high = view.shown(EXTENT)
        assert EXTENT[0] <= low < high <= EXTENT[1]
        assert high - low >= 3.999
        if step == 3:
            assert view.crosshair is not None
            assert low <= view.crosshair <= high


def test_a_window_at_the_newest_step_goes_on_with_it_and_another_stays() -> None:
    newest = ChartView().selected(800, 1000, EXTENT)
    assert newest.follow
    assert newest.followed((0.0, 1100.0)).window == (900.0, 1100.0)
    past = ChartView().selected(100, 300, EXTENT)
    assert past.followed((0.0, 1100.0)).window == (100.0, 300.0)
    moved = newest.panned(-0.25, EXTENT)
    assert not moved.follow
    assert moved.panned(0.25, EXTENT).follow, "back at the end it follows again"
    assert past.followed((500.0, 900.0)).window is None, "of a curve that is somewhere else everything is shown"


def test_the_crosshair_begins_at_the_newest_and_goes_by_whole_steps() -> None:
    view = ChartView().crossed(-1.0, EXTENT, whole=True)
    assert view.crosshair == 1000.0
    assert view.crossed(-0.3, EXTENT, whole=True).crosshair == 999.0, "a column narrower than a step moves by a step"
    assert view.crossed(-7.6, EXTENT, whole=True).crosshair == 992.0
    assert view.crossed(50.0, EXTENT).crosshair == 1000.0
    zoomed = ChartView(crosshair=5.0).selected(100, 200, EXTENT)
    assert zoomed.crossed(1.0, EXTENT).crosshair == 100.0, "one outside of the window comes in at its side"


def test_a_view_survives_json_and_nonsense_becomes_a_new_one() -> None:
    view = ChartView("time", (3.0, 9.0), 4.0, True, True, 0.6, True)
    assert ChartView.from_json(view.to_json()) == view
    for odd in (None, 7, [], "x", {}, {"window": [9, 3], "crosshair": "4", "axis": 3, "smoothing": 0.123, "log_y": "yes"}):
        assert ChartView.from_json(odd) == ChartView()
    assert ChartView.from_json({"window": [1, float("inf")]}).window is None
