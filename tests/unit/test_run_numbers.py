"""A run's number is given once, whatever is removed, copied, killed or rebuilt."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from llmops_tui.data import rundir
from llmops_tui.data.rebuild import rebuild
from llmops_tui.data.rundir import create_run, list_runs, number_of, remove_run, sweep_leftovers
from llmops_tui.paths import Home
from llmops_tui.specs.settings import EngineSettings


def add(runs: Path) -> int:
    return number_of(create_run(runs, "command", "x", {"spec": {}}).id)


def test_the_number_of_a_removed_run_is_not_given_again(tmp_path: Path) -> None:
    assert [add(tmp_path), add(tmp_path)] == [1, 2]
    for run in list_runs(tmp_path):
        shutil.rmtree(remove_run(run))
    assert add(tmp_path) == 3


def test_a_directory_deleted_by_hand_does_not_free_its_number(tmp_path: Path) -> None:
    add(tmp_path)
    shutil.rmtree(list_runs(tmp_path)[0].path)
    assert add(tmp_path) == 2


def test_runs_that_were_copied_without_the_note_keep_their_numbers(tmp_path: Path) -> None:
    add(tmp_path / "a")
    add(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for run in list_runs(tmp_path / "a"):
        shutil.copytree(run.path, tmp_path / "b" / run.id)
    remove_run(list_runs(tmp_path / "b")[-1])
    assert add(tmp_path / "b") == 3


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\x00"])
def test_a_damaged_note_costs_nothing_while_the_runs_are_there(tmp_path: Path, content: bytes) -> None:
    add(tmp_path)
    (tmp_path / ".last-number").write_bytes(content)
    assert add(tmp_path) == 2


def test_a_rebuild_of_the_database_does_not_free_a_number(tmp_path: Path) -> None:
    home = Home(tmp_path, explicit=True)
    add(home.runs)
    remove_run(list_runs(home.runs)[0])
    assert rebuild(home, EngineSettings()).runs == 0
    assert add(home.runs) == 2


def test_what_a_killed_engine_left_half_made_is_swept_and_runs_stay(tmp_path: Path) -> None:
    add(tmp_path)
    for name in (".new-command-x-0002", ".removed-command-x-0000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text("{}")
    sweep_leftovers(tmp_path)
    sweep_leftovers(tmp_path / "not-there")
    assert sorted(os.listdir(tmp_path)) == [".last-number", "command-x-0001"]


def test_a_line_that_a_full_disk_cuts_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    rundir.append_line(path, {"a": 1})
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(rundir.os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(OSError, match="No space left") as caught:
            rundir.append_line(path, {"b": 2})
    assert caught.value.errno == errno.ENOSPC
    rundir.append_line(path, {"c": 3})
    assert rundir.read_lines(path) == [{"a": 1}, {"c": 3}]
