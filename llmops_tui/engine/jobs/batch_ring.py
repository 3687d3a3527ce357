"""Which rows of the data file each of the last steps learnt from: `artifacts/batches.jsonl`, for an alarm that asks for them.

A line a step: `{"type": "batch", "attempt", "step", "rows": [row numbers from 1]}`. The file holds the last 2,000 steps at least
and 4,000 at most; it is then written anew and renamed, so that whoever reads it sees one whole file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# In the run's directory; `artifacts` is the job's own also where it runs as another user than the engine.
RING = Path("artifacts") / "batches.jsonl"
KEPT_STEPS = 2000
_MOST_ROWS = 256


class Order(Protocol):
    """What is asked of the trainer's order of rows."""

    def rows_of_step(self, step: int) -> list[int]:
        """The items of the dataset that optimizer step `step`, from 1, learns from."""


class BatchRing:
    """`numbers[item]` are the rows of the file that an item of the dataset was made of: one, or several that were packed."""

    def __init__(self, path: Path, attempt: int, order: Order, numbers: Sequence[Sequence[int]]) -> None:
        self._path = path
        self._attempt = attempt
        self._order = order
        self._numbers = numbers
        self._lines: deque[bytes] = deque(_read_lines(path), maxlen=KEPT_STEPS)
        self._written = len(self._lines)
        self._descriptor: int | None = None
        self.problem = ""

    def note(self, step: int) -> None:
        """Keep the rows of a step. A full disk ends the noting, not the training: then `problem` says so."""
        if self.problem:
            return
        rows = [number for item in self._order.rows_of_step(step) for number in self._numbers[item]][:_MOST_ROWS]
        told = ",".join(map(str, rows))
        line = f'{{"type":"batch","attempt":{self._attempt},"step":{step},"rows":[{told}]}}\n'.encode()
        self._lines.append(line)
        try:
            if self._descriptor is None or self._written >= 2 * KEPT_STEPS:
                self._begin_anew()
            else:
                os.write(self._descriptor, line)
                self._written += 1
        except OSError as error:
            self.problem = f"the rows of further steps are not noted: {error.strerror or error}"
            print(self.problem, flush=True)
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begin_anew(self) -> None:
        self.close()
        self._path.parent.mkdir(exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(b"".join(self._lines))
        fresh.rename(self._path)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._written = len(self._lines)


def _read_lines(path: Path) -> list[bytes]:
    """The whole lines an earlier attempt left."""
    try:
        return [line for line in path.read_bytes().splitlines(keepends=True)[-KEPT_STEPS:] if line.endswith(b"\n")]
    except OSError:
        return []
