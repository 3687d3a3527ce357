"""Datasets are checked whole before they get a name, and a version is its content."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from llmops_tui.data import datasets
from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.paths import Home
from tests.catalog_files import ROWS, write_rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", explicit=True)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data" / "fiqa.jsonl", list(ROWS))


def test_an_imported_dataset_is_listed_and_shown(home: Home, rows: Path) -> None:
    info = datasets.import_dataset(home, rows, licence="mit")
    assert (info["name"], info["version"], info["rows"], info["format"], info["licence"]) == ("fiqa", 1, 40, "question_answer", "mit")
    assert info["path"] == str(rows)
    assert datasets.list_datasets(home) == [info]
    assert datasets.get_dataset(home, "fiqa@v1") == info


def test_the_same_content_again_is_the_same_version(home: Home, rows: Path, tmp_path: Path) -> None:
    first = datasets.import_dataset(home, rows)
    again = write_rows(tmp_path / "elsewhere.jsonl", list(ROWS))
    assert datasets.import_dataset(home, again, "fiqa") == first
    assert len(datasets.list_datasets(home)) == 1


def test_new_content_is_the_next_version_and_the_old_one_keeps_its_digest(home: Home, rows: Path, tmp_path: Path) -> None:
    first = datasets.import_dataset(home, rows, copy=True)
    second = datasets.import_dataset(home, write_rows(tmp_path / "more.jsonl", ROWS[:5]), "fiqa", copy=True)
    assert second["version"] == 2
    assert datasets.get_dataset(home, "fiqa") == second
    assert datasets.get_dataset(home, "fiqa@v1") == first


def test_a_copy_lives_on_when_the_file_goes(home: Home, rows: Path) -> None:
    info = datasets.import_dataset(home, rows, copy=True)
    rows.unlink()
    assert Path(info["path"]).is_relative_to(home.datasets)
    assert datasets.resolve(home, "fiqa", Path("/")).path.read_text().count("\n") == 40


def test_a_registered_file_that_changed_is_refused(home: Home, rows: Path) -> None:
    datasets.import_dataset(home, rows)
    write_rows(rows, ROWS[:7])
    with pytest.raises(UsageError, match=r"fiqa@v1: .* changed since it was registered; import it again"):
        datasets.resolve(home, "fiqa", Path("/"))


def test_a_registered_file_that_is_gone_is_not_found(home: Home, rows: Path) -> None:
    datasets.import_dataset(home, rows)
    rows.unlink()
    with pytest.raises(NotFoundError, match="No such file"):
        datasets.resolve(home, "fiqa", Path("/"))


def test_bad_rows_are_named_with_number_and_reason_and_nothing_is_registered(home: Home, rows: Path) -> None:
    lines = rows.read_text().splitlines(keepends=True)
    lines[16] = "{broken\n"
    lines[20:] = ['{"question": "no answer", "answer": ""}\n'] * 30
    rows.write_text("".join(lines))
    with pytest.raises(UsageError) as caught:
        datasets.import_dataset(home, rows)
    assert "row 17: invalid JSON at column 2" in caught.value.message
    assert "(and 30 more bad rows)" in caught.value.message
    assert caught.value.fields[1] == {"field": "row 21", "message": "`answer` is empty"}
    assert len(caught.value.fields) == 20
    assert datasets.list_datasets(home) == []


def test_a_file_without_rows_is_refused(home: Home, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    with pytest.raises(UsageError, match="holds no rows"):
        datasets.import_dataset(home, empty)


def test_a_name_that_fits_no_path_is_refused(home: Home, rows: Path) -> None:
    with pytest.raises(UsageError, match="is no name"):
        datasets.import_dataset(home, rows, "../escape")


def test_a_missing_file_and_an_unknown_name_are_not_found(home: Home, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        datasets.import_dataset(home, tmp_path / "none.jsonl")
    with pytest.raises(NotFoundError, match="no registered name, and no file"):
        datasets.resolve(home, "nothing", tmp_path)
    datasets.import_dataset(home, rows)
    with pytest.raises(NotFoundError, match="has no version v9; there is v1"):
        datasets.resolve(home, "fiqa@v9", tmp_path)
    with pytest.raises(NotFoundError, match="no dataset is called 'nothing'"):
        datasets.resolve(home, "nothing@v1", tmp_path)


def test_a_relative_path_starts_at_the_callers_directory(home: Home, rows: Path) -> None:
    assert datasets.resolve(home, "fiqa.jsonl", rows.parent).path == rows
    assert datasets.get_dataset(home, "./fiqa.jsonl", rows.parent)["rows"] == 40


def test_many_imports_at_once_give_one_version_for_each_content(home: Home, tmp_path: Path) -> None:
    files = [write_rows(tmp_path / f"{number}.jsonl", ROWS[: 5 + number % 4]) for number in range(16)]
    failures: list[BaseException] = []

    def register(path: Path) -> None:
        try:
            datasets.import_dataset(home, path, "together", copy=True)
        except BaseException as error:  # noqa: BLE001 - handed to the assertion below
            failures.append(error)

    threads = [threading.Thread(target=register, args=(path,)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    listed = datasets.list_datasets(home)
    assert sorted(info["version"] or 0 for info in listed) == [1, 2, 3, 4]
    assert sorted(info["rows"] for info in listed) == [5, 6, 7, 8]
    assert not list(home.datasets.rglob("*.tmp"))


def test_a_full_disk_while_copying_registers_nothing_and_leaves_no_half_file(
    home: Home, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.os, "fsync", full)
    with pytest.raises(InsufficientResourcesError, match="the disk is full"):
        datasets.import_dataset(home, rows, copy=True)
    monkeypatch.undo()
    assert datasets.list_datasets(home) == []
    assert [path.name for path in home.datasets.rglob("*.jsonl")] == []


def test_a_state_directory_that_cannot_be_written_is_named(home: Home, rows: Path) -> None:
    home.root.write_text("a file where the directory should be")
    for copy in (False, True):
        with pytest.raises(LlmopsError, match=r"cannot be written: .*; check its permissions"):
            datasets.import_dataset(home, rows, copy=copy)


def test_the_data_of_a_waiting_run_is_known_to_be_unchanged_or_not(rows: Path, home: Home) -> None:
    stat = rows.stat()
    sha256 = datasets.import_dataset(home, rows)["sha256"]
    prepared = {"dataset": {"path": str(rows), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}, "eval_dataset": None}
    assert datasets.unchanged(prepared) is None
    rows.write_text(rows.read_text())  # touched, same content
    assert datasets.unchanged(prepared) is None
    write_rows(rows, ROWS[:3])
    assert "changed since the run was submitted" in (datasets.unchanged(prepared) or "")
    rows.unlink()
    assert "cannot be read any more" in (datasets.unchanged(prepared) or "")
