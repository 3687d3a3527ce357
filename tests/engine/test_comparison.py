"""Runs side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store
from llmops_tui.engine.comparison import check_number, compare, difference_rows
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import UsageError
from llmops_tui.specs.answers import Comparison, DifferenceRow
from llmops_tui.specs.settings import EngineSettings
from tests.unit.test_queries import put


def _run(root: Path, number: int, kind: str, record: dict[str, Any], capsule: dict[str, Any] | None = None, **more: Any) -> LiveRun:
    spec = {"kind": kind, "name": f"n{number}", "tags": [str(number)], **record.pop("spec", {})}
    directory = RunDir(root / f"{kind}-x-{number:04d}")
    directory.attempt(1).mkdir(parents=True)
    if capsule is not None:
        (directory.attempt(1) / "capsule.json").write_text(json.dumps(capsule))
    return LiveRun(directory, {"spec": spec, "submitted_at": 1.0, **record}, None, **more)


async def _compare(store: Store, *runs: LiveRun) -> Comparison:
    return await compare(store, runs, [run.summary(None) for run in runs])


def _row(rows: list[DifferenceRow], key: str) -> tuple[list[Any], bool]:
    row = next(row for row in rows if row["key"] == key)
    return row["values"], row["differs"]


CAPSULE = {
    "git": {"commit": "abc", "branch": "main", "untracked": [], "diff": {"sha256": "d1", "bytes": 3}},
    "python": {"version": "3.11.2", "executable": "/usr/bin/python", "packages": {"torch": "2.5.0", "peft": "0.14"}},
    "driver": {"nvidia": "550.54"}, "gpus": [{"index": 0, "name": "H100"}, {"index": 1, "name": "H100"}, {"index": 2, "name": "A10"}],
    "host": {"name": "box", "cpu_cores": 16}, "env": {"OMP_NUM_THREADS": "4", "LLMOPS_RUN": "train-x-0001"},
}  # fmt: skip


async def test_runs_of_different_kinds_are_compared_and_what_one_lacks_is_none(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db", EngineSettings())
    dataset = {"name": "fiqa", "sha256": "aa", "rows": 100, "licence": "MIT", "mtime_ns": 5, "why": "detected"}
    train = _run(
        tmp_path, 1, "train", capsule=CAPSULE, latest={"train/loss": 1.5, "eval/loss": math.nan},
        record={"spec": {"optim": {"learning_rate": 1e-4}, "seed": 1, "packing": True, "env": {"HF_TOKEN": "secret", "A": "b"}},
                "prepared": {"dataset": dataset, "eval_dataset": None, "rows": {"learnt": 90}, "warnings": ["few"], "disk_bytes": 7}},
    )  # fmt: skip
    command = _run(tmp_path, 2, "command", {"spec": {"argv": ["a", "b"], "packing": 1}, "prepared": {"program": "/bin/a", "warnings": []}})
    found = await _compare(store, train, command)
    store.close()

    assert [run["id"] for run in found["runs"]] == ["train-x-0001", "command-x-0002"]
    assert _row(found["config"], "kind") == (["train", "command"], True)
    assert _row(found["config"], "optim.learning_rate") == ([1e-4, None], True)
    assert _row(found["config"], "argv") == ([None, "a, b"], True)
    assert _row(found["config"], "packing") == ([True, 1], True)
    assert _row(found["config"], "env.HF_TOKEN") == (["***", None], True)
    assert _row(found["config"], "env.A") == (["b", None], True)
    assert not {"name", "tags", "notes"} & {row["key"] for row in found["config"]}
    assert {row["key"]: row["values"] for row in found["data"]} == {
        "dataset.name": ["fiqa", None], "dataset.sha256": ["aa", None], "dataset.rows": [100, None], "dataset.licence": ["MIT", None],
        "rows.learnt": [90, None], "program": [None, "/bin/a"],
    }  # fmt: skip
    environment = {row["key"]: row["values"][0] for row in found["environment"]}
    assert environment == {
        "git.commit": "abc", "git.branch": "main", "git.diff": "d1", "python": "3.11.2", "driver.nvidia": "550.54",
        "gpus": "2 × H100, A10", "host.name": "box", "host.cpu_cores": 16, "package.torch": "2.5.0", "package.peft": "0.14",
        "env.OMP_NUM_THREADS": "4",
    }  # fmt: skip
    assert found["metrics"] == [
        {"metric": "eval/loss", "last": [None, None], "minimum": [None, None], "maximum": [None, None]},
        {"metric": "train/loss", "last": [1.5, None], "minimum": [1.5, None], "maximum": [1.5, None]},
    ]


async def test_the_extremes_of_a_metric_are_those_of_its_curve(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db", EngineSettings())
    one = _run(tmp_path, 1, "train", {}, latest={"a": 3.0})
    two = _run(tmp_path, 2, "train", {}, latest={"a": 7.0})
    # Steps 2 and 3 were done again: what the first attempt told of them is no part of the curve any more.
    put(store, [(1, 5.0), (2, 99.0), (3, -99.0), (4, math.nan)], one.id, "a", attempt=1)
    put(store, [(2, 4.0), (3, 3.0)], one.id, "a", attempt=2)
    put(store, [(1, 6.0), (2, math.inf), (3, 7.0)], two.id, "a")
    found = await _compare(store, one, two)
    store.close()
    assert found["metrics"] == [{"metric": "a", "last": [3.0, 7.0], "minimum": [3.0, 6.0], "maximum": [5.0, 7.0]}]


def test_equal_values_do_not_differ_and_a_key_that_none_has_is_left_out() -> None:
    assert difference_rows([{"a": 1, "b": None}, {"a": 1.0, "b": None}]) == [{"key": "a", "values": [1, 1.0], "differs": False}]


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"], [str(number) for number in range(17)]])
def test_fewer_than_two_and_more_than_sixteen_runs_are_refused(names: list[str]) -> None:
    with pytest.raises(UsageError, match="2 to 16 different ones"):
        check_number(names)
