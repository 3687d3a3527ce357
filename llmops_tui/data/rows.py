"""Rows of a dataset file, one at a time, each with the number an editor or a spreadsheet shows for it.

`read_rows(path)` reads JSON lines (`.jsonl`, `.ndjson`), a JSON array (`.json`), `.csv`, `.tsv`, `.txt`, `.parquet` and `.arrow`,
all but the last two also with `.gz` behind, and directories of such files (shards.py). All but a JSON array stream in constant
memory. A `.json` file that begins with an object is read as JSON lines, as such files often are. Standard library only, but
for Parquet and Arrow.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, cast

from llmops_tui.data.shards import file_kind, files_of
from llmops_tui.errors import NotFoundError, UsageError

Row = dict[str, object]

# A longer line is no row but a file of another kind, and would be read into memory whole.
LONGEST_ROW_BYTES = 64 << 20

_BATCH = 1024
# A few hundred tokens: pieces enough for some to be held out of a short text.
_TEXT_PIECE = 2000
_BOM = b"\xef\xbb\xbf"


class ShardRow(int):
    """The number of a row within one file of a directory; it prints with the file's name."""

    file: str

    def __new__(cls, number: int, file: str) -> ShardRow:
        made = super().__new__(cls, number)
        made.file = file
        return made

    def __str__(self) -> str:
        return f"{int(self)} of {self.file}"

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)


class RowError(UsageError):
    """One bad row: its number and why it cannot be used."""

    def __init__(self, row_number: int, reason: str) -> None:
        super().__init__(f"row {row_number}: {reason}", fields=[{"field": f"row {row_number}", "message": reason}])
        self.row_number = row_number
        self.reason = reason


def read_rows(path: Path, limit: int | None = None, on_error: Callable[[RowError], None] | None = None) -> Iterator[tuple[int, Row]]:
    """Yield `(row_number, row)`, at most `limit` of them; blank lines count as lines but are no rows.

    The first bad row raises RowError; with `on_error` it is handed over instead and reading goes on where the file allows it.
    Raises NotFoundError for a missing file, UsageError for one that cannot be read as a dataset at all.
    """
    found = _readers(path, on_error or _raise)
    return found if limit is None else islice(found, limit)


def _raise(error: RowError) -> None:
    raise error


def _readers(path: Path, bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    files = files_of(path)
    if not path.is_dir():
        yield from _one_file(path, bad)
        return
    for file in files:
        name = file.relative_to(path).as_posix()
        for number, row in _one_file(file, lambda error, name=name: bad(RowError(ShardRow(error.row_number, name), error.reason))):  # type: ignore[misc]
            yield ShardRow(number, name), row


def _one_file(path: Path, bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    kind = file_kind(path)
    if kind in (".parquet", ".arrow"):
        yield from _columns(path, kind)
        return
    number = 0
    try:
        with _open(path) as file:
            if kind in (".csv", ".tsv"):
                rows = _table(path, file, "\t" if kind == ".tsv" else ",", bad)
            elif kind == ".txt":
                rows = _text(file, bad)
            elif kind == ".json" and _begins_with_bracket(file):
                rows = _array(file, bad)
            else:
                rows = _lines(file, bad)
            for number, row in rows:
                yield number, row
    except EOFError:
        bad(RowError(number + 1, "the gzip stream ends early: the file is truncated"))
    except (gzip.BadGzipFile, zlib.error) as error:
        bad(RowError(number + 1, f"not a whole gzip stream: {error}"))


def _open(path: Path) -> IO[bytes]:
    try:
        return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else open(path, "rb")
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "check the path; it is read relative to where the command was given") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "check the file's permissions") from None


def _text(file: IO[bytes], bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    """Plain text in pieces of whole paragraphs, each of about so many characters; a row's number is that of its first line."""
    piece: list[str] = []
    begin = size = 0
    for number, line in enumerate(iter(partial(file.readline, LONGEST_ROW_BYTES), b""), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad(RowError(number, f"not UTF-8: byte {error.start + 1} of the line"))
            continue
        if not text.strip():
            if size >= _TEXT_PIECE:
                yield begin, {"text": "".join(piece).strip()}
                piece, size = [], 0
                continue
        elif not size:
            piece, begin = [], number
        piece.append(text)
        size += len(text.strip())
    if size:
        yield begin, {"text": "".join(piece).strip()}


def _begins_with_bracket(file: IO[bytes]) -> bool:
    head = file.read(4096).removeprefix(_BOM).lstrip()
    file.seek(0)
    return head.startswith(b"[")


def _lines(file: IO[bytes], bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    offset = 0
    for number, line in enumerate(iter(partial(file.readline, LONGEST_ROW_BYTES), b""), 1):
        start, offset = offset, offset + len(line)
        if number == 1 and line.startswith(_BOM):
            start, line = len(_BOM), line[len(_BOM) :]
        if len(line) >= LONGEST_ROW_BYTES and not line.endswith(b"\n"):
            bad(RowError(number, f"longer than {LONGEST_ROW_BYTES >> 20} MiB: not JSON lines"))
            return
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            bad(RowError(number, _why_no_json(error, start) + (_document_hint(line) if number == 1 else "")))
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            bad(RowError(number, f"not a JSON object but {_json_type(row)}"))


def _array(file: IO[bytes], bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    content = file.read()
    try:
        values = json.loads(content.removeprefix(_BOM).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # No row can be told apart in a broken document: the line is what an editor finds.
        number = error.lineno if isinstance(error, json.JSONDecodeError) else content[: getattr(error, "start", 0)].count(b"\n") + 1
        bad(RowError(number, _why_no_json(error, 0)))
        return
    for number, value in enumerate(values, 1):
        if isinstance(value, dict):
            yield number, value
        else:
            bad(RowError(number, f"not a JSON object but {_json_type(value)}"))


def _why_no_json(error: Exception, offset: int) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not valid UTF-8: byte 0x{error.object[error.start]:02x} at offset {offset + error.start} of the file"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON at column {error.colno}: {error.msg}"
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    return f"invalid JSON: {error}"


def _document_hint(line: bytes) -> str:
    if line.strip() in (b"[", b"{"):
        return " (this is one JSON document over many lines: an array of objects is read from a .json file)"
    return ""


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names: dict[type, str] = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _table(path: Path, file: IO[bytes], delimiter: str, bad: Callable[[RowError], None]) -> Iterator[tuple[int, Row]]:
    """CSV and TSV; the header is row 1, as a spreadsheet shows it, and a quoted field may span lines."""
    csv.field_size_limit(LONGEST_ROW_BYTES)
    # surrogateescape keeps the reader going over a bad byte, so that its row and column can be named.
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    text = (line.decode("utf-8", "surrogateescape") for line in file)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    while True:
        number += 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad(RowError(number, f"broken {'TSV' if delimiter == chr(9) else 'CSV'}: {error}"))
            return
        if not values:
            continue
        if not header:
            header = _header(path, values)
            continue
        if len(values) != len(header):
            bad(RowError(number, f"{len(values)} fields where the header names {len(header)}"))
            continue
        broken = next((index for index, value in enumerate(values) if not value.isascii() and _has_bad_byte(value)), None)
        if broken is None:
            yield number, dict(zip(header, values, strict=True))
        else:
            bad(RowError(number, f"not valid UTF-8 in column {header[broken]!r}"))


def _header(path: Path, values: list[str]) -> list[str]:
    header = [value.strip() for value in values]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: the header names column {twice!r} twice", "rename one of them")
    if any(_has_bad_byte(name) for name in header):
        raise UsageError(f"{path}: the header is not valid UTF-8", "save the file as UTF-8")
    return header


def _has_bad_byte(value: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in value)


def _columns(path: Path, kind: str) -> Iterator[tuple[int, Row]]:
    """Parquet, or an Arrow stream as `datasets` saves it, some rows at a time."""
    name = "Parquet" if kind == ".parquet" else "Arrow"
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise UsageError(f"{path}: reading {name} needs pyarrow", "pip install 'llmops-tui[train]', or export the rows as JSONL") from None
    number = 0
    try:
        with parquet.ParquetFile(path) if kind == ".parquet" else pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))) as file:
            for batch in file.iter_batches(batch_size=_BATCH) if kind == ".parquet" else file:
                for start in range(0, batch.num_rows, _BATCH):
                    for row in batch.slice(start, _BATCH).to_pylist():
                        number += 1
                        yield number, row
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "check the path; it is read relative to where the command was given") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a whole {name} file: {str(error).splitlines()[0]}", "write or copy it again") from None
