"""One page of many runs: what is on it, in which order, with which columns."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.annotation import Annotation
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.run_pages import page, read_wish
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import RunPage
from llmops_tui.specs.run_filter import FilterError

NOW = 100_000.0


def _run(number: int, state: str = "succeeded", kind: str = "command", spec: dict[str, Any] | None = None, **more: Any) -> LiveRun:
    record = {"submitted_at": float(number), "owner": "ada", "spec": {"kind": kind, "name": "x", **(spec or {})}}
    run = LiveRun(RunDir(Path(f"/nowhere/{kind}-x-{number:04d}")), record, None, state=state, order=float(number))
    for name, value in more.items():
        setattr(run, name, value)
    return run


def _page(runs: list[LiveRun], **asked: Any) -> RunPage:
    wish = {"filter": "", "states": (), "kinds": (), "sort": "", "descending": None, "columns": (), "limit": 100, "offset": 0, **asked}
    return page(runs, read_wish(**wish), NOW)


def _numbers(found: RunPage) -> list[int]:
    return [int(run["id"][-4:]) for run in found["runs"]]


def test_a_page_is_cut_from_the_newest_on_and_counts_what_matches() -> None:
    runs = [_run(number, "failed" if number % 2 else "queued", kind="train" if number > 6 else "command") for number in range(1, 11)]
    found = _page(runs, states={"failed"}, limit=2, offset=1)
    assert ([run["id"] for run in found["runs"]], found["total"]) == (["train-x-0007", "command-x-0005"], 5)
    assert _page(runs, kinds={"train"})["total"] == 4
    assert _page(runs, offset=1000) == {"runs": [], "total": 10, "columns": {}, "offset": 1000}
    assert _page(runs, states={"queued"}, kinds={"command"}, limit=1)["runs"][0]["queue_position"] == 3
    assert _numbers(_page(runs, filter="state:failed kind:train")) == [9, 7]


def test_a_run_that_is_looked_at_stays_on_the_page_whatever_came_before_it() -> None:
    runs = [_run(number, "failed" if number % 2 else "succeeded") for number in range(1, 101)]
    found = _page(runs, around="command-x-0031", limit=10)
    assert 31 in _numbers(found)
    assert found["offset"] == 64
    assert _page(runs, around="command-x-0095", limit=10)["offset"] == 0, "it is on the page that was asked for"
    assert _numbers(_page(runs, filter="state:succeeded", around="command-x-0031", limit=2)) == [100, 98], "it does not match"


@pytest.mark.parametrize(
    ("sort", "descending", "expected"),
    [
        ("", None, [4, 3, 2, 1]), ("submitted", False, [1, 2, 3, 4]), ("id", None, [1, 2, 3, 4]), ("id", True, [4, 3, 2, 1]),
        ("state", None, [3, 4, 2, 1]), ("duration", None, [2, 3, 4, 1]), ("duration", False, [3, 2, 4, 1]), ("ended", None, [2, 4, 3, 1]),
        ("priority", None, [1, 4, 3, 2]), ("metric.train/loss", None, [3, 1, 4, 2]), ("metric.train/loss", True, [1, 3, 4, 2]),
        ("cfg.r", None, [2, 4, 3, 1]), ("cfg.lora.r", True, [3, 4, 2, 1]), ("owner", None, [4, 3, 2, 1]),
    ],
)  # fmt: skip
def test_runs_are_sorted_with_those_that_have_no_value_last(sort: str, descending: bool | None, expected: list[int]) -> None:
    runs = [
        _run(1, "succeeded", latest={"train/loss": 2.0}, priority=3),
        _run(2, "succeeded", spec={"lora": {"r": 4}}, started_at=10.0, ended_at=90.0, latest={"train/loss": math.nan}),
        _run(3, "running", spec={"lora": {"r": "auto"}}, started_at=NOW - 5, latest={"train/loss": 1.0}),
        _run(4, "failed", spec={"lora": {"r": 16}}, ended_at=80.0),
    ]
    assert _numbers(_page(runs, sort=sort, descending=descending)) == expected


def test_columns_hold_what_each_run_has() -> None:
    runs = [
        _run(1, spec={"optim": {"learning_rate": 1e-4}, "tags": ["a"]}, latest={"train/loss": 1.5}),
        _run(2, latest={"train/loss": math.inf}),
    ]
    found = _page(runs, columns=("cfg.learning_rate", "metric.train/loss", "cfg.learning_rate"))
    assert found["columns"] == {
        "command-x-0001": {"cfg.learning_rate": 1e-4, "metric.train/loss": 1.5},
        "command-x-0002": {"cfg.learning_rate": None, "metric.train/loss": None},
    }


def test_what_was_written_to_a_run_is_found_at_once() -> None:
    run = _run(1, spec={"tags": ["old"], "notes": "from the spec"})
    assert _page([run], filter="tag:old spec")["total"] == 1
    run.written = Annotation(["new"], None, True)
    assert _page([run], filter="tag:new spec baseline:yes")["total"] == 1
    assert _page([run], filter="old")["total"] == 0


def test_a_setting_that_could_be_two_is_asked_back() -> None:
    runs = [_run(1, spec={"a": {"limit": 1}, "b": {"limit": 2}})]
    with pytest.raises(FilterError, match=r"cfg\.limit could be a\.limit or b\.limit") as refusal:
        _page(runs, filter="x cfg.limit>0")
    assert refusal.value.position == 2
    # Where one kind of run has it once, that one is meant.
    assert _numbers(_page([*runs, _run(2, spec={"c": {"limit": 3}})], filter="cfg.limit>0")) == [2]


@pytest.mark.parametrize("asked", [{"sort": "loss"}, {"sort": "cfg."}, {"columns": ("name",)}, {"columns": ("metric.",)}])
def test_a_sort_key_or_column_that_does_not_exist_is_named(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="there is no") as refusal:
        _page([], **asked)
    assert refusal.value.fields[0]["field"] in ("sort", "column")


def test_pages_of_ten_thousand_runs_are_what_looking_at_each_run_finds() -> None:
    chance = random.Random(3)
    runs = [
        _run(
            number, chance.choice(["running", "failed", "succeeded"]), kind=chance.choice(["train", "command"]),
            spec={"optim": {"learning_rate": chance.choice([1e-5, 1e-4, 1e-3])}, "tags": chance.sample(["a", "b", "c"], 2)},
            latest={"train/loss": chance.random()} if chance.random() < 0.8 else {},
        )
        for number in range(1, 10_001)
    ]  # fmt: skip
    found: list[str] = []
    while len(found) % 500 == 0:
        asked = _page(runs, filter="state:failed tag:a cfg.learning_rate>=1e-4", sort="metric.train/loss", limit=500, offset=len(found))
        found += [run["id"] for run in asked["runs"]]
    wanted = [run for run in runs if run.state == "failed" and "a" in run.tags and run.spec_values["optim"]["learning_rate"] >= 1e-4]
    order = sorted(wanted, key=lambda run: (run.latest.get("train/loss", 2.0), -run.submitted_at))
    assert len(found) == asked["total"] > 1000
    assert found == [run.id for run in order]
