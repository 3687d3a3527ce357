"""Reading the gateway's spool on from where the database stands: one transaction a call, for the live ingest and for a rebuild.

Files are read in the order of their numbers. Where each stands in the database is known by the database alone: what is remembered
here is what was committed. What is read is flushed to the disk before it is committed: after a power cut no file is shorter than
its offset says, and what the gateway then appends is not taken for what was stored already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmops_tui.data.durable import sync_directory
from llmops_tui.data.request_lines import LONGEST_LINE_BYTES, RequestBatch, parse
from llmops_tui.data.request_store import SpoolPosition, Stretch, read_positions, write_requests
from llmops_tui.data.spool_files import SPOOLS, SpoolFile, head_of, list_files
from llmops_tui.data.store import Store

_TRANSACTION_BYTES = 8 << 20
_READ_BYTES = 4 << 20
Mark = tuple[str, int, str]


@dataclass
class Taken:
    """What one call stored. `feedback`: request and rating; `broken`: unusable lines, a line a file; `more`: there is more to read."""

    requests: int = 0
    texts: int = 0
    feedback: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    more: bool = False


class SpoolReader:
    """Used by one thread at a time."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.directory = directory
        self.problems: dict[Path, str] = {}
        self._store = store
        self._positions: dict[Mark, SpoolPosition] | None = None
        self._heads: dict[tuple[str, int], tuple[int, str]] = {}

    @property
    def positions(self) -> dict[Mark, SpoolPosition]:
        """Where every file stands, as it is committed."""
        if self._positions is None:
            found = self._store.read(read_positions)
            self._positions = {(position.spool, position.number, position.head): position for position in found}
        return self._positions

    def forget(self) -> None:
        """Ask the database again: whether the last transaction stands is not known."""
        self._positions = None

    def mark(self, file: SpoolFile) -> Mark | None:
        """By what the database knows this file; None while its first line is not whole. Raises OSError."""
        inode, head = self._heads.get((file.spool, file.number), (-1, ""))
        if inode != file.inode:
            found = head_of(file)
            if found is None:
                return None
            head = found
            self._heads[file.spool, file.number] = file.inode, head
        return file.spool, file.number, head

    def take(self) -> Taken:
        """Store the next stretch of what stands in the spool. Raises what the store and the file system raise; nothing is stored then."""
        taken, stretches = Taken(), []
        room = _TRANSACTION_BYTES
        files = [file for spool in SPOOLS for file in list_files(self.directory, spool)]
        self.problems = {file.path: self.problems[file.path] for file in files if file.path in self.problems}
        for file in files:
            if room <= 0:
                taken.more = True
                break
            stretch, left = self._next(file)
            taken.more |= left
            if stretch is not None:
                room -= stretch.batch.end - stretch.batch.offset
                stretches.append(stretch)
        if stretches:
            if not all(stretch.position.known for stretch in stretches):
                sync_directory(self.directory)
            try:
                moved = self._store.write(lambda con: write_requests(con, stretches)).result()
            except BaseException:
                self.forget()
                raise
            self.positions.update({(position.spool, position.number, position.head): position for position in moved})
        _sum_up(taken, stretches)
        return taken

    def _next(self, file: SpoolFile) -> tuple[Stretch | None, bool]:
        """The next lines of one file, and whether more stand behind them."""
        try:
            mark = self.mark(file) if file.size else None
        except OSError as error:
            self.problems[file.path] = f"{file.path.name} cannot be read: {error.strerror}"
            return None, False
        if mark is None:
            return None, False
        position = self.positions.get(mark) or SpoolPosition(*mark)
        if file.size < position.offset:
            # Somebody cut it. What is stored stays, and what comes now stands behind the cut.
            cut = RequestBatch(file.size, file.size)
            cut.reject(f"the file was cut by {position.offset - file.size} bytes that are stored", file.size)
            return Stretch(position, cut), False
        if file.size == position.offset and (not file.final or position.done_at is not None):
            self.problems.pop(file.path, None)
            return None, False
        try:
            data = _read_bytes(file, position.offset)
        except OSError as error:
            self.problems[file.path] = f"{file.path.name} cannot be read: {error.strerror}"
            return None, False
        self.problems.pop(file.path, None)
        at_end = position.offset + len(data) >= file.size
        batch = parse(data, position.offset, file.spool, final=file.final and at_end, skipping=position.skipping)
        done = file.final and batch.end >= file.size
        if batch.empty and not done:
            return None, False
        return Stretch(position, batch, time.time() if done else None), not at_end


def _read_bytes(file: SpoolFile, offset: int) -> bytes:
    """From the offset on: a read's size, or as much as one whole line takes; never past the size the file was seen with."""
    left = file.size - offset
    with open(file.path, "rb", buffering=0) as opened:
        data = os.pread(opened.fileno(), min(_READ_BYTES, left), offset)
        if b"\n" not in data and len(data) < left:
            data = os.pread(opened.fileno(), min(LONGEST_LINE_BYTES, left), offset)
        os.fdatasync(opened.fileno())
    return data


def _sum_up(taken: Taken, stretches: Sequence[Stretch]) -> None:
    for stretch in stretches:
        batch: RequestBatch = stretch.batch
        taken.requests += len(batch.requests)
        taken.texts += len(batch.texts)
        taken.feedback += [(row[0], row[3]) for row in batch.feedback]
        if batch.first_broken:
            name = f"{stretch.position.spool}-{stretch.position.number:06d}.jsonl"
            taken.broken.append(f"{name}: {batch.broken} unusable lines, first {batch.first_broken}")
