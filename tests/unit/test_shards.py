"""A directory of files is a dataset like a file: the same rows, the same digest rules, and errors that name the file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from llmops_tui.data import datasets
from llmops_tui.data.rows import read_rows
from llmops_tui.data.scan import scan
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.paths import Home
from tests.catalog_files import ROWS, write_rows


def save_to_disk(path: Path, shards: list[list[dict[str, object]]]) -> Path:
    """The layout of `datasets.Dataset.save_to_disk` (datasets 4): Arrow streams, named in order by state.json."""
    path.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(shards):05}.arrow" for number in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_stream(path / name, table.schema) as stream:
            stream.write_table(table)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": "train"}))
    (path / "dataset_info.json").write_text("{}")
    return path


def rows_of(path: Path) -> list[dict[str, object]]:
    return [row for _, row in read_rows(path)]


def test_arrow_shards_are_read_in_the_order_of_state_json(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved", [ROWS[:7], ROWS[7:]])
    assert rows_of(path) == ROWS
    assert (scan(path).format, scan(path).rows) == ("question_answer", 40)


def test_of_several_splits_train_is_meant_and_another_is_named_by_its_path(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "train", [ROWS[:7]])
    save_to_disk(tmp_path / "test", [ROWS[7:]])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert rows_of(tmp_path) == ROWS[:7]
    assert rows_of(tmp_path / "test") == ROWS[7:]


@pytest.mark.parametrize("inside", ["", "data"])
def test_shards_of_one_kind_are_read_in_name_order(tmp_path: Path, inside: str) -> None:
    directory = tmp_path / inside
    directory.mkdir(exist_ok=True)
    (tmp_path / "README.md").write_text("about the rows")
    (tmp_path / "dataset_infos.json").write_text("{}")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[7:]), directory / "train-00001-of-00002.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:7]), directory / "train-00000-of-00002.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:3]), directory / "test-00000-of-00001.parquet")
    assert rows_of(tmp_path) == ROWS


def test_a_bad_row_of_a_directory_names_its_file_and_its_number_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", ROWS[:3])
    (tmp_path / "b.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": "a", "answer": ""}\nbroken\n')
    found = scan(tmp_path)
    assert [str(error) for error in found.bad] == [
        "row 2 of b.jsonl: `answer` is empty",
        "row 3 of b.jsonl: invalid JSON at column 1: Expecting value",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "no dataset files lie in this directory"),
        ({"a.jsonl": "", "b.csv": ""}, r"files of several kinds \(a.jsonl, b.csv\)"),
        ({"test.jsonl": "", "validation.jsonl": ""}, "holds the splits test, validation"),
        ({"dataset_dict.json": '{"splits": ["test", "dev"]}'}, "holds the splits test, dev"),
        ({"dataset_dict.json": '{"splits": ["../train"]}'}, "names a file outside its directory"),
        ({"state.json": "{}"}, "does not say what lies beside it"),
    ],
)
def test_a_directory_that_is_no_dataset_says_why(tmp_path: Path, content: dict[str, str], reason: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=reason):
        rows_of(tmp_path)


def test_an_arrow_shard_that_is_missing_or_torn_is_named(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved", [ROWS[:7], ROWS[7:]])
    shard = path / "data-00001-of-00002.arrow"
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"data-00001-of-00002\.arrow: not a whole Arrow file"):
        rows_of(path)
    shard.unlink()
    with pytest.raises(NotFoundError, match=r"state.json names data-00001-of-00002.arrow, which is not there"):
        rows_of(path)


def test_a_registered_directory_is_its_content_and_a_changed_file_is_noticed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", explicit=True)
    path = tmp_path / "corpus"
    write_rows(path / "a.jsonl", ROWS[:7])
    write_rows(path / "b.jsonl", ROWS[7:14])
    info = datasets.import_dataset(home, path)
    copied = datasets.import_dataset(home, path, "copied", copy=True)
    assert (info["name"], info["rows"], copied["sha256"]) == ("corpus", 14, info["sha256"])
    assert rows_of(Path(copied["path"])) == ROWS[:14]
    prepared = {"dataset": {"path": str(path), "sha256": info["sha256"], "bytes": info["bytes"], "mtime_ns": 0}}
    assert datasets.unchanged(prepared) is None
    write_rows(path / "c.jsonl", ROWS[14:15])
    assert datasets.unchanged(prepared) == f"{path}: the rows changed since the run was submitted"
    shutil.rmtree(path)
    assert str(datasets.unchanged(prepared)).startswith(f"{path}: ")
    assert rows_of(datasets.resolve(home, "copied", Path("/")).path) == ROWS[:14]


def test_an_exchanged_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", explicit=True)
    path = tmp_path / "corpus"
    for name in ("a.jsonl", "b.jsonl"):
        write_rows(path / name, ROWS[:2])
    found = scan(path)
    prepared = {
        "dataset": {
            "path": str(path), "sha256": datasets.content_digest(home, path), "bytes": found.size_bytes, "mtime_ns": found.mtime_ns,
        }
    }  # fmt: skip
    stat = (path / "a.jsonl").stat()
    (path / "a.jsonl").write_text((path / "a.jsonl").read_text().replace("It is 1.", "It is 7."))
    os.utime(path / "a.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert datasets.unchanged(prepared) is not None


def test_texts_in_a_directory_are_rows_unless_they_tell_of_others(tmp_path: Path) -> None:
    for name in ("a.txt", "eval.txt", "README.txt"):
        (tmp_path / name).write_text(f"{name} says this")
    assert [row["text"] for row in rows_of(tmp_path)] == ["a.txt says this", "eval.txt says this"]
    write_rows(tmp_path / "rows.jsonl", list(ROWS))
    assert rows_of(tmp_path) == list(ROWS)
