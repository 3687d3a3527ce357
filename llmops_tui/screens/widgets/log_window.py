"""Lines of a file of any size, from the few blocks that are needed: a pure model, ranges are asked for and fed in from outside."""

from __future__ import annotations

import re
from collections import OrderedDict

BLOCK_BYTES = 1 << 16
# A longer line is shown in pieces: progress bars that never end a line must not make us read the whole file.
PIECE_BYTES = 1 << 12
_BLOCKS_KEPT = 48
_HEAD_KEPT_BYTES = 1 << 20  # what log rotation leaves before the hole
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


class LogWindow:
    """`wanted` collects the blocks that were missing; ask for them, `feed` them, and read the lines again."""

    def __init__(self) -> None:
        self.size = 0
        self.first_kept = 0
        self.wanted: set[int] = set()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def feed(self, offset: int, data: bytes, size: int, first_kept: int = 0) -> None:
        """A range that was read. A file that shrank is another file: everything is forgotten."""
        if size < self.size:
            self._blocks.clear()
        self.size, self.first_kept = size, first_kept
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

    def lines(self, offset: int, count: int) -> list[tuple[int, str]]:
        """Up to `count` lines from a line's start, as `(offset, text)`; fewer at the end or where a block is missing."""
        found: list[tuple[int, str]] = []
        while len(found) < count and offset < self.size:
            if self._in_hole(offset):
                found.append((offset, f"⋯ {(self.first_kept - offset) >> 20} MiB of the middle were cut by log rotation ⋯"))
                offset = self.first_kept
                continue
            after = self._after(offset)
            if after is None:
                break
            found.append((offset, shown(self._bytes(offset, after) or b"")))
            offset = after
        return found

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


def shown(raw: bytes) -> str:
    """A line as a terminal would leave it: after the last carriage return, without escapes and control characters."""
    text = raw.decode("utf-8", "replace").rstrip("\r\n")
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part), "")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\t" in text:
        text = text.expandtabs(8)
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())
