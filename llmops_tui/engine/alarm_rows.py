"""The rows behind an alarm: their numbers from the ring the job writes, their text from the data file, read as the run's user."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

from llmops_tui.data.rows import read_rows
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.batch_ring import RING
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.answers_watch import AlarmRow

_MOST_RING_BYTES = 16 << 20
_MOST_ROWS = 256
_LONGEST_TEXT = 200


def rows_of_step(run: RunDir, attempt: int, step: int) -> list[int]:
    """The numbers, from 1, of the rows that step learnt from; empty where the ring does not reach back so far, or there is none."""
    try:
        descriptor = os.open(run.path / RING, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # the job's user wrote it
        with open(descriptor, "rb") as file:
            content = file.read(_MOST_RING_BYTES)
    except OSError:
        return []
    found: list[int] = []
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the newest line may be half written
        if isinstance(record, dict) and record.get("step") == step and record.get("attempt", attempt) == attempt:
            rows = record.get("rows")
            found = [row for row in rows if isinstance(row, int) and row > 0][:_MOST_ROWS] if isinstance(rows, list) else []
    return found


def row_texts(path: Path, numbers: list[int]) -> list[AlarmRow]:
    """How these rows of a data file begin. Raises what `read_rows` raises, and OSError."""
    wanted = set(numbers)
    texts: dict[int, str] = {}
    for place, (_, row) in enumerate(islice(read_rows(path), max(wanted, default=0)), 1):
        if place in wanted:
            texts[place] = _preview(row)
    return [AlarmRow(number=number, text=texts.get(number, "")) for number in numbers]


def read_texts(path: Path, numbers: list[int]) -> tuple[list[AlarmRow], str]:
    """As `row_texts`; where the file cannot be read the numbers alone, and why."""
    try:
        return row_texts(path, numbers), ""
    except (LlmopsError, OSError, ValueError) as error:
        return [AlarmRow(number=number, text="") for number in numbers], f"the rows' text cannot be read: {error}"


def _preview(row: object) -> str:
    """A row's words without its keys, in one line."""
    text = " ".join(" ".join(_words(row)).split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for key, inner in value.items() if key not in ("role", "from") for word in _words(inner)]
    if isinstance(value, list):
        return [word for inner in value for word in _words(inner)]
    return [] if value is None else [str(value)]
