"""Rows come with the number an editor shows, and a bad one says where and why."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from llmops_tui.data.rows import LONGEST_ROW_BYTES, RowError, read_rows
from llmops_tui.errors import NotFoundError, UsageError


def collect(path: Path) -> tuple[list[tuple[int, dict[str, object]]], list[str]]:
    bad: list[RowError] = []
    rows = list(read_rows(path, on_error=bad.append))
    return rows, [str(error) for error in bad]


def file(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_row_numbers_are_the_lines_an_editor_shows_blank_lines_included(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", b'{"a": 1}\n\n  \n{"a": 2}')
    assert list(read_rows(path)) == [(1, {"a": 1}), (4, {"a": 2})]


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_row(tmp_path: Path) -> None:
    assert list(read_rows(file(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a": "\xc3\xbc"}\r\n{"a": "b"}\r\n'))) == [
        (1, {"a": "ü"}),
        (2, {"a": "b"}),
    ]


def test_a_limit_stops_reading_before_a_later_bad_row(tmp_path: Path) -> None:
    assert list(read_rows(file(tmp_path, "a.jsonl", b'{"a": 1}\nbroken\n'), limit=1)) == [(1, {"a": 1})]


def test_invalid_json_names_its_row_and_column_and_reading_goes_on(tmp_path: Path) -> None:
    rows, bad = collect(file(tmp_path, "a.jsonl", b'{"a": 1}\n{"a" 2}\n{"a": 3}\n'))
    assert [number for number, _ in rows] == [1, 3]
    assert bad == ["row 2: invalid JSON at column 6: Expecting ':' delimiter"]


def test_without_a_collector_the_first_bad_row_is_raised(tmp_path: Path) -> None:
    rows = read_rows(file(tmp_path, "a.jsonl", b'{"a": 1}\n[1]\n'))
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(RowError) as caught:
        next(rows)
    assert (caught.value.row_number, caught.value.reason) == (2, "not a JSON object but an array")


def test_a_row_that_is_no_object_says_what_it_is_instead(tmp_path: Path) -> None:
    _, bad = collect(file(tmp_path, "a.jsonl", b'"text"\n12\nnull\ntrue\n'))
    assert [text.rpartition("but ")[2] for text in bad] == ["a string", "a number", "null", "true or false"]


def test_invalid_utf8_names_the_byte_and_its_offset_in_the_file(tmp_path: Path) -> None:
    _, bad = collect(file(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n'))
    assert bad == ["row 2: not valid UTF-8: byte 0xe9 at offset 19 of the file"]


def test_json_nested_without_end_is_a_bad_row_and_no_crash(tmp_path: Path) -> None:
    _, bad = collect(file(tmp_path, "a.jsonl", b"[" * 200_000 + b"\n"))
    assert bad == ["row 1: invalid JSON: nested too deeply"]


def test_a_number_of_too_many_digits_is_a_bad_row_and_no_crash(tmp_path: Path) -> None:
    _, bad = collect(file(tmp_path, "a.jsonl", b'{"a": ' + b"9" * 10_000 + b"}\n"))
    assert bad[0].startswith("row 1: invalid JSON: Exceeds the limit")


def test_a_line_too_long_to_be_a_row_is_refused_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as sparse:
        sparse.truncate(LONGEST_ROW_BYTES + 10)
    assert collect(path)[1] == ["row 1: longer than 64 MiB: not JSON lines"]


def test_a_truncated_gzip_says_so_and_keeps_the_rows_before(tmp_path: Path) -> None:
    dice = random.Random(0)
    lines = b"".join(json.dumps({"a": dice.random()}).encode() + b"\n" for _ in range(20_000))
    rows, bad = collect(file(tmp_path, "a.jsonl.gz", gzip.compress(lines)[:-2000]))
    assert rows
    assert bad == [f"row {rows[-1][0] + 1}: the gzip stream ends early: the file is truncated"]


def test_a_gzip_name_on_another_file_says_so(tmp_path: Path) -> None:
    assert collect(file(tmp_path, "a.jsonl.gz", b'{"a": 1}\n'))[1][0].startswith("row 1: not a whole gzip stream")


def test_a_json_array_numbers_its_elements(tmp_path: Path) -> None:
    rows, bad = collect(file(tmp_path, "a.json", b'\xef\xbb\xbf [{"a": 1},\n 2,\n {"a": 3}]'))
    assert rows == [(1, {"a": 1}), (3, {"a": 3})]
    assert bad == ["row 2: not a JSON object but a number"]


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    assert len(list(read_rows(file(tmp_path, "a.json", b'{"a": 1}\n{"a": 2}\n')))) == 2


def test_an_array_written_into_a_jsonl_file_is_explained(tmp_path: Path) -> None:
    _, bad = collect(file(tmp_path, "a.jsonl", b'[\n{"a": 1}\n]\n'))
    assert "read from a .json file" in bad[0]


def test_a_broken_array_names_the_line(tmp_path: Path) -> None:
    assert collect(file(tmp_path, "a.json", b'[{"a": 1},\n {"a" 2}]'))[1][0].startswith("row 2: invalid JSON at column 7")


def test_csv_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", b'\xef\xbb\xbf"question",answer\r\n"two\nlines",a\r\n\r\nb,"say ""hi"""\r\n')
    assert list(read_rows(path)) == [(2, {"question": "two\nlines", "answer": "a"}), (4, {"question": "b", "answer": 'say "hi"'})]


def test_csv_rows_with_more_or_fewer_fields_than_the_header_are_bad(tmp_path: Path) -> None:
    rows, bad = collect(file(tmp_path, "a.csv", b"a,b\n1\n1,2,3\n1,2\n"))
    assert rows == [(4, {"a": "1", "b": "2"})]
    assert bad == ["row 2: 1 fields where the header names 2", "row 3: 3 fields where the header names 2"]


def test_a_csv_quote_that_never_closes_is_a_bad_row(tmp_path: Path) -> None:
    assert collect(file(tmp_path, "a.csv", b'a,b\n1,"two\n'))[1] == ["row 2: broken CSV: unexpected end of data"]


def test_invalid_utf8_in_csv_names_the_column_and_reading_goes_on(tmp_path: Path) -> None:
    rows, bad = collect(file(tmp_path, "a.csv", b"a,b\n1,caf\xe9\n2,b\n"))
    assert bad == ["row 2: not valid UTF-8 in column 'b'"]
    assert rows == [(3, {"a": "2", "b": "b"})]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names column 'a' twice"):
        list(read_rows(file(tmp_path, "a.csv", b"a,a\n1,2\n")))


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    assert list(read_rows(file(tmp_path, "a.tsv", b"a\tb\n1,5\t2\n"))) == [(2, {"a": "1,5", "b": "2"})]


def test_parquet_rows_are_read_and_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"question": ["a", "b"], "answer": ["c", None]})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert list(read_rows(path)) == [(1, {"question": "a", "answer": "c"}), (2, {"question": "b", "answer": None})]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UsageError, match="not a whole Parquet file"):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.parquet"])
def test_a_missing_file_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.xlsx", "rows", "a.parquet.gz"])
def test_a_kind_of_file_we_do_not_read_names_those_we_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.jsonl"):
        list(read_rows(file(tmp_path, name, b"x")))


def test_a_directory_without_rows_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dataset files lie in this directory"):
        list(read_rows(tmp_path))


def test_a_plain_text_is_rows_of_whole_paragraphs_numbered_by_their_first_line(tmp_path: Path) -> None:
    paragraph = "word " * 150 + "\n" + "word " * 150  # 1,500 characters in two lines
    rows, bad = collect(file(tmp_path, "book.txt", ("\ufeff\n\n" + "\n\n".join([paragraph] * 5)).encode()))
    assert bad == []
    assert [number for number, _ in rows] == [3, 9, 15]
    assert [row["text"].count("\n\n") for _, row in rows] == [1, 1, 0]
    assert "\n\n".join(row["text"] for _, row in rows).split() == ["word"] * 1500
    assert collect(file(tmp_path, "empty.txt", b"\n \n"))[0] == []


def test_a_line_of_a_text_that_is_not_utf8_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    rows, bad = collect(file(tmp_path, "a.txt", b"one\nt\xffwo\nthree\n"))
    assert [row["text"] for _, row in rows] == ["one\nthree"]
    assert bad == ["row 2: not UTF-8: byte 2 of the line"]
