"""What differs from when a run was started, and whether its rows are still the ones it was submitted with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.models import model_digest
from llmops_tui.engine.reproduce import Present, decisive, differences, pinned_spec
from llmops_tui.engine.same_data import changed_data
from llmops_tui.engine.working_tree import WorkingTree
from llmops_tui.paths import Home
from tests.catalog_files import write_model

CAPSULE: dict[str, Any] = {
    "prepared": {"dataset": {"sha256": "d1"}, "model": {"sha256": "m1"}, "eval_dataset": None},
    "git": {"commit": "c1", "diff": None},
    "python": {"version": "3.11.7", "packages": {"torch": "2.12.0", "gone": "1.0"}},
    "driver": {"nvidia": "550.1"},
    "gpus": [{"uuid": "GPU-1", "name": "H100"}],
    "host": {"name": "box"},
}


def present(**changes: Any) -> Present:
    same = {
        "prepared": {"dataset": {"sha256": "d1"}, "model": {"sha256": "m1"}}, "python": "3.11.7",
        "packages": {"torch": "2.12.0", "gone": "1.0"}, "driver": {"nvidia": "550.1"}, "gpus": [{"uuid": "GPU-1", "name": "H100"}],
        "host": "box", "tree": WorkingTree("/r", "c1"),
    }  # fmt: skip
    return Present(**{**same, **changes})


def test_nothing_differs_where_nothing_changed() -> None:
    assert differences(CAPSULE, present()) == []


def test_everything_that_is_not_as_it_was_is_told_what_decides_first() -> None:
    found = differences(
        CAPSULE,
        present(
            prepared={"dataset": {"sha256": "d2"}, "model": {"sha256": "m1"}},
            packages={"torch": "2.13.0", "new": "3"},
            driver={"nvidia": "560.2"},
            gpus=[{"uuid": "GPU-2", "name": "A100"}],
            tree=WorkingTree("/r", "c2", diff=b"+x"),
        ),
    )
    assert [(one["what"], one["then"], one["now"]) for one in found] == [
        ("data", "d1", "d2"),
        ("git commit", "c1", "c2"),
        ("git diff", "", f"changes {hashlib.sha256(b'+x').hexdigest()[:16]}"),
        ("driver nvidia", "550.1", "560.2"),
        ("GPU", "H100 (GPU-1)", "A100"),
        ("package gone", "1.0", ""),
        ("package new", "", "3"),
        ("package torch", "2.12.0", "2.13.0"),
    ]
    assert [one["what"] for one in decisive(found)] == ["data"]
    assert decisive(differences(CAPSULE, present(python="3.12.1"))) == []


def test_a_name_that_means_something_newer_by_now_is_pinned_to_what_it_meant() -> None:
    record = {
        "spec": {"kind": "train", "model": "smol@champion", "dataset": {"path": "support", "limit": 3}},
        "prepared": {
            "model": {"name": "smol", "version": 2, "path": "/m"},
            "dataset": {"name": "rows", "version": None, "path": "/d.jsonl"},
        },
    }
    assert pinned_spec(record) == {"kind": "train", "model": "smol@v2", "dataset": {"path": "/d.jsonl", "limit": 3}}
    assert record["spec"]["dataset"]["path"] == "support", "the old record is left alone"
    keep = {"rehearsal": [{"path": "general", "weight": 0.1}], "probe_path": "probe", "best": True}
    more = {
        "spec": {**record["spec"], "keep": keep, "distill": {"teacher": "big@champion"}},
        "prepared": {
            **record["prepared"],
            "rehearsal": [{"name": "general", "version": 1, "path": "/g.jsonl"}],
            "probe": {"name": "probe", "version": 3, "path": "/p.jsonl"},
            "teacher": {"name": "big", "version": 4, "path": "/t"},
        },
    }
    pinned = pinned_spec(more)
    assert pinned["keep"] == {"rehearsal": [{"path": "general@v1", "weight": 0.1}], "probe_path": "probe@v3", "best": True}
    assert pinned["distill"] == {"teacher": "big@v4"}
    assert pinned_spec({"spec": {"kind": "command", "argv": ["x"]}, "prepared": {}}) == {"kind": "command", "argv": ["x"]}


@pytest.fixture
def noted(tmp_path: Path) -> dict[str, Any]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    status = rows.stat()
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    return {"prepared": {"dataset": {"path": str(rows), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}}}


def test_rows_that_were_only_touched_are_the_same_and_changed_or_missing_ones_are_not(noted: dict[str, Any], tmp_path: Path) -> None:
    home, rows = Home(tmp_path / "home", explicit=True), Path(noted["prepared"]["dataset"]["path"])
    assert changed_data(noted, home) == ""
    os.utime(rows, (1, 1))
    assert changed_data(noted, home) == "", "another time, the same content"
    rows.write_text('{"text": "b"}\n')
    assert "has changed" in changed_data(noted, home)
    rows.unlink()
    assert "cannot be read" in changed_data(noted, home)
    os.mkfifo(rows)
    assert "no file" in changed_data(noted, home), "and nobody waits for a pipe"
    assert changed_data({"prepared": {}}, home) == changed_data(json.loads("{}"), home) == ""


@pytest.mark.parametrize("part", ["probe", "rehearsal", "rewards", "teacher", "model"])
def test_everything_else_a_run_reads_must_be_what_it_was_too(noted: dict[str, Any], tmp_path: Path, part: str) -> None:
    home, path = Home(tmp_path / "home", explicit=True), tmp_path / f"{part}.jsonl"
    if part in ("teacher", "model"):
        path = write_model(tmp_path / part)
        changed, digest = path / "config.json", model_digest(home, path)
    else:
        path.write_text('{"text": "a"}\n')
        changed, digest = path, hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"path": str(path), "sha256": digest}
    noted["prepared"][part] = [record] if part in ("rehearsal", "rewards") else record
    assert changed_data(noted, home) == ""
    changed.write_text(changed.read_text() + " ")
    assert f"{path} has changed since the run was submitted" in changed_data(noted, home)
