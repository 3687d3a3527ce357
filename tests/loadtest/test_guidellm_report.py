"""guidellm.json has guidellm 0.8.1's own fields, each of its type, whatever load was asked for; guidellm itself is not needed for that."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_tui.engine.jobs.loadtesting.asking import Outcome, Target
from llmops_tui.engine.jobs.loadtesting.guidellm_report import guidellm_report
from llmops_tui.engine.jobs.loadtesting.schedule import stages_of
from llmops_tui.specs.loadtest import LoadtestSpec
from tests.loadtest.guidellm_schema import SCHEMA, faults

CLASSES: dict[str, Any] = json.loads(SCHEMA.read_bytes())["classes"]
TARGET: Target = {"url": "http://127.0.0.1:8700/v1", "model": "support"}
LOADS: dict[str, dict[str, Any]] = {
    "closed": {"concurrency": [1, 4], "ramp_seconds": 2.0},
    "poisson": {"rate": [2.0, 8.0]},
    "constant": {"rate": [2.0], "arrivals": "constant", "ramp_seconds": 1.0},
    "replay": {"prompts": {"dataset": "rows.jsonl", "replay_speed": 2.0}},
}


def outcome(number: int, **more: Any) -> Outcome:
    due = 100.0 + number
    values = {
        "sent": due + 0.01, "first": due + 0.1, "last": due + 0.3, "end": due + 0.3, "status": 200, "prompt_tokens": 10,
        "completion_tokens": 3, "counted_by": "usage", "gaps": (0.1, 0.1),
    }  # fmt: skip
    return Outcome(number, due, **{**values, **more})


def report_of(load: str) -> dict[str, Any]:
    """A report with answers, a failure and one that was given up, as it is read back from the file."""
    spec = LoadtestSpec.model_validate({"endpoint": "support", "requests": 6, **LOADS[load]})
    stages = stages_of(spec, recorded=[float(n) for n in range(6)])
    outcomes = [
        *(outcome(number) for number in range(4)),
        outcome(4, first=0.0, last=0.0, status=500, completion_tokens=0, gaps=(), error="500: no"),
        outcome(5, last=0.0, given_up=True),
    ]
    results = [(stage, SimpleNamespace(began=100.0, ended=110.0), outcomes) for stage in stages]
    return json.loads(json.dumps(guidellm_report(spec, TARGET, results, 1e9)))  # type: ignore[no-any-return,arg-type]


@pytest.mark.parametrize("load", LOADS)
def test_every_field_of_the_report_is_guidellms_own(load: str) -> None:
    assert faults(report_of(load), CLASSES) == []


@pytest.mark.parametrize(
    ("load", "profile", "strategies"),
    [
        ("closed", {"kind": "concurrent", "streams": [1, 4], "rampup_duration": 2.0}, ["synchronous", "concurrent"]),
        ("poisson", {"kind": "poisson", "rate": [2.0, 8.0], "max_concurrency": 1024, "rampup_duration": 0.0}, ["poisson", "poisson"]),
        ("constant", {"kind": "constant", "rate": [2.0], "max_concurrency": 1024, "rampup_duration": 1.0}, ["constant"]),
        ("replay", {"kind": "replay", "time_scale": 0.5, "schedule_turn": "timestamp"}, ["trace"]),
    ],
)
def test_a_load_is_called_what_guidellm_calls_it(load: str, profile: dict[str, Any], strategies: list[str]) -> None:
    report = report_of(load)
    assert report["config"]["spec"]["profile"] == profile
    assert [each["config"]["strategy"]["type_"] for each in report["benchmarks"]] == strategies


def test_rows_of_a_dataset_are_not_called_synthetic() -> None:
    assert report_of("replay")["config"]["spec"]["data"] == [{"kind": "json_file", "path": "rows.jsonl"}]
    assert report_of("closed")["config"]["spec"]["data"][0]["kind"] == "synthetic_text"


def test_when_and_how_long_it_took_is_there_as_guidellm_computes_it() -> None:
    (measured,) = report_of("constant")["benchmarks"]
    assert (measured["start_time"], measured["end_time"], measured["duration"]) == (1e9 + 100, 1e9 + 110, 10.0)
    assert measured["scheduler_metrics"]["requests_made"] == {"successful": 4, "errored": 1, "incomplete": 1, "total": 6}


def test_what_is_not_guidellms_is_found() -> None:
    """The check itself: a field too many, one too few, and values of another type each have their place named."""
    sound = report_of("closed")
    for change, told in (
        (lambda r: r["benchmarks"][0]["metrics"].pop("request_latency"), "report.benchmarks[0].metrics.request_latency is missing"),
        (lambda r: r["metadata"].update(extra=1), "report.metadata.extra: GenerativeBenchmarkMetadata has no such field"),
        (lambda r: r["metadata"].update(version=1), "report.metadata.version: 1 is none of 2"),
        (lambda r: r["benchmarks"][1]["config"]["strategy"].update(streams=0), "report.benchmarks[1].config.strategy.streams: 0 must be"),
        (lambda r: r["benchmarks"][0]["requests"]["errored"][0]["info"].update(status="gone"), "info.status: 'gone' is none of"),
        (lambda r: r["benchmarks"][0]["metrics"]["tokens_per_second"]["total"].update(mean="fast"), "total.mean: 'fast' is no float"),
    ):
        broken = copy.deepcopy(sound)
        change(broken)
        assert any(told in fault for fault in faults(broken, CLASSES)), told
