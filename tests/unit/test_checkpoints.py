"""Which checkpoints a run may be resumed from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops_tui.data.checkpoints import MARKER, broken_after, complete_checkpoints, mark_complete, newest_complete, prune
from llmops_tui.data.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "train-fiqa-0001")


def write(run: RunDir, step: int, *, complete: bool = True) -> Path:
    directory = run.checkpoints / f"checkpoint-{step}"
    (directory / "inner").mkdir(parents=True)
    (directory / "weights.bin").write_bytes(b"w" * 100)
    (directory / "inner" / "state.bin").write_bytes(b"s" * 10)
    if complete:
        mark_complete(directory, step)
    return directory


def test_a_run_without_checkpoints_has_no_newest_one(run: RunDir) -> None:
    assert complete_checkpoints(run) == []
    assert newest_complete(run) is None


def test_checkpoints_come_by_step_and_not_by_name(run: RunDir) -> None:
    for step in (9, 100, 20):
        write(run, step)
    assert [c["step"] for c in complete_checkpoints(run)] == [9, 20, 100]
    assert newest_complete(run) == run.checkpoints / "checkpoint-100"
    assert complete_checkpoints(run)[0]["bytes"] == 110


def test_a_half_written_checkpoint_is_never_the_newest(run: RunDir) -> None:
    whole = write(run, 10)
    write(run, 20, complete=False)
    assert newest_complete(run) == whole


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncated", "is torn: inner/state.bin has 1 of 10 bytes"), ("missing", "lacks weights.bin"),
        ("marker is garbage", "has no complete.json that can be read"), ("marker is a list", "has no complete.json that can be read"),
        ("no marker", "was never finished"),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_passed_over_for_an_older_whole_one_and_named(run: RunDir, damage: str, words: str) -> None:
    whole, damaged = write(run, 10), write(run, 20)
    if damage == "truncated":
        (damaged / "inner" / "state.bin").write_bytes(b"s")
    elif damage == "missing":
        (damaged / "weights.bin").unlink()
    elif damage == "marker is garbage":
        (damaged / MARKER).write_text("{")
    elif damage == "no marker":
        (damaged / MARKER).unlink()
    else:
        (damaged / MARKER).write_text("[1]")
    assert newest_complete(run) == whole
    assert broken_after(run, 10) == [f"checkpoint-20 {words}"]
    assert broken_after(run, 20) == []


def test_pruning_keeps_the_newest_whole_ones_and_sweeps_half_written_ones(run: RunDir) -> None:
    for step in (10, 20, 30):
        write(run, step)
    write(run, 40, complete=False)
    removed = prune(run, keep=2)
    assert [c["step"] for c in complete_checkpoints(run)] == [20, 30]
    assert sorted(path.name for path in removed) == ["checkpoint-10", "checkpoint-40"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-20", "checkpoint-30"]


@pytest.mark.parametrize(
    "marker",
    [
        '{"step": 9, "t": 1, "files": []}',
        '{"step": 9, "t": 1, "files": {"weights.bin": "100"}}',
        '{"step": 1e999, "t": 1, "files": {}}',
        '{"step": 9, "t": 1, "files": {"\\u0000": 1}}',
        "[" * 100_000,
        "[]",
    ],
)
def test_a_marker_that_a_job_wrote_nonsense_into_is_no_checkpoint(run: RunDir, marker: str) -> None:
    write(run, 5)
    (write(run, 9) / MARKER).write_text(marker)
    assert newest_complete(run) == run.checkpoints / "checkpoint-5"


@pytest.mark.parametrize("name", ["{outside}", "../../../outside", "link", "inner/../link"])
def test_a_marker_tells_nothing_of_files_that_lie_elsewhere(run: RunDir, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"12345")
    directory = write(run, 9)
    (directory / "link").symlink_to(outside)
    (directory / MARKER).write_text(json.dumps({"step": 9, "t": 1, "files": {name.format(outside=outside): 5}}))
    assert complete_checkpoints(run) == []
