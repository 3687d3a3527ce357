"""The curves of what is served: gaps where nobody asked, zero where a rate is meant, lines where the route changed."""

from __future__ import annotations

from typing import Any

from llmops_tui.screens.serve_curves import METRICS, VERSIONS, change_marks, curves_of, metrics_of
from llmops_tui.specs.answers_requests import LatencyHistory

SECONDS = 30.0


def point(t: float, **values: Any) -> dict[str, Any]:
    quantiles = {f"{name}_{rank}": None for name in ("ttft", "itl", "total", "queue") for rank in ("p50", "p95", "p99")}
    return {"t": t, "requests": 3, "errors": 1, "good": 2, "completion_tokens": 60, "prompt_tokens": 90, **quantiles, **values}


def history(**versions: list[dict[str, Any]]) -> LatencyHistory:
    return {"endpoint": "support", "since": 0.0, "until": 3600.0, "seconds": SECONDS, "versions": versions}  # type: ignore[typeddict-item]


def test_a_latency_stops_where_nobody_asked_and_goes_on_after() -> None:
    asked = [point(t, ttft_p50=t + 1, ttft_p95=t + 2, ttft_p99=t + 3) for t in (0.0, 30.0, 300.0, 330.0, 360.0)]
    p50, p95, p99 = curves_of(history(v1=asked), "ttft", "v1", {})
    assert list(p95.x) == [15.0, 45.0, 315.0, 345.0, 375.0]
    assert p95.pieces == ((0, 2), (2, 5))
    assert (p50.final, p99.final, p95.gaps) == (361.0, 363.0, ())


def test_a_rate_is_zero_where_nobody_asked() -> None:
    requests, errors = curves_of(history(v1=[point(0.0), point(300.0)]), "requests", "v1", {})
    assert list(requests.last) == [0.1, 0.0, 0.0, 0.1]
    assert list(requests.x) == sorted(requests.x)
    assert errors.final == 1 / 30


def test_a_version_that_was_never_streamed_has_no_first_token() -> None:
    told = history(v1=[point(0.0, ttft_p95=9.0)], v2=[point(0.0), point(30.0)])
    assert curves_of(told, "ttft", "v2", {"ttft_ms": 200.0}) == []
    assert [curve.name for curve in curves_of(told, VERSIONS, "v1", {})] == ["v1"]
    assert curves_of(history(v1=[]), "ttft", "v1", {}) == curves_of(None, "ttft", "v1", {}) == []


def test_the_slo_is_a_line_and_goodput_is_offered_only_with_one() -> None:
    told = history(v1=[point(0.0, ttft_p50=1.0, ttft_p95=2.0, ttft_p99=3.0)])
    slo = curves_of(told, "ttft", "v1", {"ttft_ms": 200.0})[-1]
    assert (slo.name, list(slo.last)) == ("SLO", [200.0, 200.0])
    assert "good" not in metrics_of(told, {"ttft_ms": 0.0})
    assert metrics_of(told, {"ttft_ms": 200.0}) == list(METRICS)
    (good,) = curves_of(told, "good", "v1", {"ttft_ms": 200.0})
    assert good.final == 100 * 2 / 3


def test_versions_are_offered_over_each_other_where_there_are_several() -> None:
    assert VERSIONS in metrics_of(history(v1=[point(0.0)], v2=[point(0.0)]), {})
    assert VERSIONS not in metrics_of(history(v1=[point(0.0)], v2=[]), {})


def test_lines_mark_who_answered_from_when_on_and_nothing_else() -> None:
    change = {"by": "ada", "before": {"v1": 100.0}, "after": {"v1": 95.0, "v2": 5.0}}
    changes: list[Any] = [{**change, "t": t, "what": what} for t, what in ((-5, "route"), (10, "pin"), (20, "route"), (30, "rollback"))]
    marks = change_marks(changes, 0.0, 3600.0)
    assert [(mark.kind, mark.t) for mark in marks] == [("route", 20), ("rollback", 30)]
    assert marks[0].text == "to v1 95 %, v2 5 %"
