"""A dataset read once from end to end: every row checked and counted before anything is started."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from llmops_tui.data.formats import detect
from llmops_tui.data.judged import parse_row, texts_of
from llmops_tui.data.rows import RowError, read_rows
from llmops_tui.data.shards import files_of
from llmops_tui.data.split import row_key
from llmops_tui.errors import UsageError

BAD_ROWS_SHOWN = 20
_DETECT_ROWS = 200


@dataclass
class Scan:
    """What a file or directory holds. `keys` and `characters` have one entry a good row.

    `bad` keeps the first bad rows, `bad_rows` counts all; `size_bytes` is of all files together, `mtime_ns` of the newest;
    `equal_sides` counts pairs with nothing to prefer.
    """

    path: Path
    format: str
    why: str
    size_bytes: int = 0
    mtime_ns: int = 0
    keys: list[bytes] = field(default_factory=list)
    characters: array[int] = field(default_factory=lambda: array("Q"))
    bad: list[RowError] = field(default_factory=list)
    bad_rows: int = 0
    equal_sides: int = 0

    @property
    def rows(self) -> int:
        return len(self.keys)

    def require_good(self) -> None:
        """Raises UsageError with the first bad row in its message and the first 20 in `fields`; also for a file without rows."""
        if self.bad:
            more = f" (and {self.bad_rows - 1:,} more bad rows)" if self.bad_rows > 1 else ""
            fields = [field for error in self.bad for field in error.fields]
            raise UsageError(
                f"{self.path}: {self.bad[0].message}{more}", f"correct the rows (format {self.format}), or leave them out", fields
            )
        if not self.rows:
            raise UsageError(f"{self.path}: holds no rows", "name a file with at least one row")


def scan(path: Path, row_format: str = "auto", learnable: Collection[str] = ()) -> Scan:
    """Read and check every row. Where rows fit two formats alike, one of `learnable` is taken.

    Raises NotFoundError or UsageError where the file or its format cannot be read at all.
    """
    sample: list[RowError] = []
    rows = [row for _, row in islice(read_rows(path, on_error=sample.append), _DETECT_ROWS)]
    why = "set by the user"
    if row_format == "auto" and rows:
        detected = detect(rows, learnable)
        row_format, why = detected.format, detected.why
    found = Scan(path, row_format, why)

    def bad(error: RowError) -> None:
        found.bad_rows += 1
        if len(found.bad) < BAD_ROWS_SHOWN:
            found.bad.append(error)

    before = _stamps(path)
    for number, row in read_rows(path, on_error=bad):
        try:
            parsed = parse_row(row, row_format, number)
        except RowError as error:
            bad(error)
            continue
        found.keys.append(row_key(parsed))
        found.characters.append(sum(map(len, texts_of(parsed))))
        if isinstance(parsed, dict) and "chosen" in parsed and parsed["chosen"] == parsed["rejected"]:
            found.equal_sides += 1
    after = _stamps(path)
    if before != after:
        raise UsageError(f"{path}: changed while it was read", "wait until it is written, then try again")
    found.size_bytes, found.mtime_ns = sum(size for _, size, _ in after), max((mtime for _, _, mtime in after), default=0)
    return found


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file the rows are read from."""
    stats = [(file.name, file.stat()) for file in files_of(path)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
