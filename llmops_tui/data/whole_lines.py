"""The whole lines of a file that grows, from the bytes read of it so far: pure. What is broken in them is counted, never fatal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar


@dataclass
class LineBatch:
    """What a stretch of lines holds, from byte `offset` to `end`; `skipping`: it ends inside a line of which nothing is kept."""

    offset: int
    end: int
    skipping: bool = False
    lines: int = 0
    broken: int = 0
    first_broken: str = ""

    @property
    def empty(self) -> bool:
        return self.end == self.offset

    def reject(self, reason: str, line_end: int) -> None:
        """Count a line that cannot be used."""
        self.broken += 1
        if not self.first_broken:
            self.first_broken = f"the line that ends at byte {line_end}: {reason}"


B = TypeVar("B", bound=LineBatch)


def begin(batch_type: type[B], data: bytes, offset: int, *, longest: int, final: bool, skipping: bool) -> tuple[B, list[bytes], int]:
    """An empty batch over the whole lines of `data`, which begins at byte `offset` of the file; the lines; where the first begins.

    A last line without its line feed waits for the next call, unless `final`: nothing more is to come. `skipping` says that `data`
    begins inside a line longer than `longest` bytes: nobody would write one, and it is let go of without holding it in memory.
    """
    whole = len(data) if final else data.rfind(b"\n") + 1
    if not whole:
        if len(data) < longest:
            return batch_type(offset, offset, skipping), [], offset
        batch = batch_type(offset, offset + len(data), skipping=True)
        if not skipping:
            batch.reject(f"longer than {longest >> 20} MiB", batch.end)
        return batch, [], offset
    # What follows a last line taken without its line feed is the rest of that line, or the one that heals it.
    batch = batch_type(offset, offset + whole, skipping=not data.endswith(b"\n", 0, whole))
    lines = data[:whole].split(b"\n")
    if not lines[-1]:
        lines.pop()
    position = offset
    if skipping:
        position += len(lines[0]) + 1
        del lines[0]
    return batch, lines, position
