"""Lines of a file of any size, from the few blocks that are needed: a pure model, ranges are asked for and fed in from outside."""

from __future__ import annotations

from collections import OrderedDict

from llmops_tui.screens.widgets.log_lines import LogLine
from llmops_tui.screens.widgets.log_search import BLOCK_BYTES
from llmops_tui.specs.log_text import PIECE_BYTES

_BLOCKS_KEPT = 48
_HEAD_KEPT_BYTES = 1 << 20  # what log rotation leaves before the hole


class LogWindow:
    """`wanted` collects the blocks that were missing; ask for them, `feed` them, and read the lines again."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self._size = 0
        self.first_kept = 0
        self.wanted: set[int] = set()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Where the log ends; `limit` makes it end earlier."""
        return self._size if self.limit is None else min(self._size, self.limit)

    def feed(self, offset: int, data: bytes, size: int, first_kept: int = 0) -> None:
        """A range that was read. A file that shrank is another file: everything is forgotten."""
        if size < self._size:
            self._blocks.clear()
        self._size, self.first_kept = size, first_kept
        while data:
            start = offset - offset % BLOCK_BYTES
            piece, data = data[: start + BLOCK_BYTES - offset], data[start + BLOCK_BYTES - offset :]
            known = self._blocks.get(start, b"")
            if offset <= start + len(known) and offset + len(piece) > start + len(known):
                self._blocks[start] = known[: offset - start] + piece
                self._blocks.move_to_end(start)
            self.wanted.discard(start)
            offset = start + BLOCK_BYTES
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)

    def known_end(self, offset: int) -> int:
        """The end of what is known of the block around `offset`."""
        start = offset - offset % BLOCK_BYTES
        return start + len(self._blocks.get(start, b""))

    def lines(self, offset: int, count: int) -> list[LogLine]:
        """Up to `count` lines from a line's start; fewer at the end or where a block is missing."""
        found: list[LogLine] = []
        while len(found) < count and offset < self.size:
            if self._in_hole(offset):
                text = f"⋯ {(self.first_kept - offset) >> 20} MiB of the middle were cut by log rotation ⋯"
                found.append(LogLine(offset, self.first_kept, text, note=True))
                offset = self.first_kept
                continue
            after = self._after(offset)
            if after is None:
                break
            found.append(LogLine(offset, after, (self._bytes(offset, after) or b"").decode("utf-8", "replace")))
            offset = after
        return found

    def raw(self, line: LogLine) -> bytes:
        """A line's bytes; empty where they are not known any more."""
        return self._bytes(line.offset, line.end) or b""

    def back(self, offset: int, count: int) -> int:
        """The start of the line `count` lines before the one at `offset`; as far as known."""
        for _ in range(count):
            before = self._before(offset)
            if before is None:
                break
            offset = before
        return offset

    def _in_hole(self, offset: int) -> bool:
        return _HEAD_KEPT_BYTES <= offset < self.first_kept

    def _after(self, offset: int) -> int | None:
        """Where the line after the one at `offset` starts."""
        limit = min(self.size, offset + PIECE_BYTES)
        if self.first_kept and offset < _HEAD_KEPT_BYTES:
            limit = min(limit, _HEAD_KEPT_BYTES)
        data = self._bytes(offset, limit)
        if data is None:
            return None
        end = data.find(b"\n")
        return limit if end < 0 else offset + end + 1

    def _before(self, offset: int) -> int | None:
        """Where the line before the one at `offset` starts."""
        if offset <= 0:
            return None
        if self._in_hole(offset - 1):
            return _HEAD_KEPT_BYTES
        floor = max(0, offset - PIECE_BYTES)
        if self.first_kept and offset > self.first_kept:
            floor = max(floor, self.first_kept)
        data = self._bytes(floor, offset)
        if data is None:
            return None
        return floor + data.rfind(b"\n", 0, len(data) - 1) + 1

    def _bytes(self, begin: int, end: int) -> bytes | None:
        """A range, or None (and the missing blocks wanted)."""
        parts = []
        missing = False
        for start in range(begin - begin % BLOCK_BYTES, end, BLOCK_BYTES):
            block = self._blocks.get(start, b"")
            if start + len(block) < min(end, start + BLOCK_BYTES):
                self.wanted.add(start)
                missing = True
            else:
                self._blocks.move_to_end(start)
                parts.append(block[max(0, begin - start) : end - start])
        return None if missing else b"".join(parts)
