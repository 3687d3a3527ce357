"""A server's own load over time as curves: in the stretch that is shown, in the right unit, with gaps where it told nothing."""

from __future__ import annotations

from llmops_tui.screens.serve_load import LOADS, Told, load_curves, metric_names
from llmops_tui.specs.answers import Series


def series(metric: str, *points: tuple[float, float | None]) -> Series:
    return {"metric": metric, "total_points": len(points), "buckets": [[t, t, 1, value, value, value, value, t] for t, value in points]}


def told(*of: Series) -> Told:
    return Told("serve-support-0001", 1000.0, 2000.0, of)


def test_running_and_waiting_are_drawn_within_the_stretch_alone() -> None:
    running = series("serve/running", (990.0, 9.0), (1010.0, 3.0), (1990.0, 1.0), (2010.0, 9.0))
    curves = load_curves(told(running, series("serve/waiting", (1010.0, 0.0))), "load")
    assert [(curve.name, list(curve.x), list(curve.last)) for curve in curves] == [
        ("running", [1010.0, 1990.0], [3.0, 1.0]),
        ("waiting", [1010.0], [0.0]),
    ]


def test_shares_are_percent_and_what_is_not_told_has_no_curve() -> None:
    (hits,) = load_curves(told(series("serve/prefix_hit_fraction", (1010.0, 0.25), (1020.0, None), (1030.0, 0.5))), "cache")
    assert (hits.name, list(hits.last), hits.gaps) == ("prefix hits", [25.0, 50.0], (1020.0,))
    assert load_curves(told(), "cache") == load_curves(None, "load") == []


def test_points_of_a_server_that_was_started_anew_are_in_the_order_of_time() -> None:
    (running,) = load_curves(told(series("serve/running", (1500.0, 2.0), (1400.0, 1.0))), "load")
    assert list(running.x) == [1400.0, 1500.0]


def test_every_metric_asked_for_is_one_that_servers_write() -> None:
    assert metric_names() == ["serve/running", "serve/waiting", "serve/kv_cache_fraction", "serve/prefix_hit_fraction"]
    assert list(LOADS) == ["load", "cache"]
