"""What a trial told of its metric, read from its events.jsonl while that grows. The file is the truth: nothing is kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llmops_tui.engine.sweeps.trials import Report

TOKENS = "train/tokens"
_CHUNK_BYTES = 4 << 20


class ReportReader:
    """One trial's reports so far; `read` takes what was added. A value told before the first step (tokens 0) is no report."""

    def __init__(self, events: Path, metric: str) -> None:
        self.reports: list[Report] = []
        self.tokens = 0
        self._events = events
        self._metric = metric
        self._marks = (json.dumps(metric).encode(), json.dumps(TOKENS).encode())
        self._offset = 0
        self._told_tokens = False

    def read(self) -> None:
        """Take the whole lines that were added. A missing file is an empty one. Raises OSError. Blocking."""
        try:
            with open(self._events, "rb") as file:
                file.seek(self._offset)
                while chunk := file.read(_CHUNK_BYTES):
                    end = chunk.rfind(b"\n") + 1
                    if not end and len(chunk) == _CHUNK_BYTES:  # one endless line: the ingest says so, it is no report
                        self._offset += len(chunk)
                        continue
                    for line in chunk[:end].split(b"\n"):
                        if any(mark in line for mark in self._marks):
                            self._take(line)
                    self._offset += end
                    file.seek(self._offset)
                    if not end:
                        return
        except FileNotFoundError:
            return

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        if not isinstance(record, dict) or record.get("type") != "metric":
            return
        values, step = record.get("values"), record.get("step")
        if not isinstance(values, Mapping) or not isinstance(step, int):
            return
        tokens = _number(values.get(TOKENS))
        if tokens is not None:
            self._told_tokens, self.tokens = True, int(tokens)
        elif not self._told_tokens:
            self.tokens = step
        value = _number(values.get(self._metric))
        if value is None or step <= 0:
            return
        # An attempt that went on from a checkpoint tells of the steps since then again.
        while self.reports and self.reports[-1].tokens >= self.tokens:
            self.reports.pop()
        self.reports.append(Report(self.tokens, value))


def _number(value: object) -> float | None:
    """Also those that JSON has no number for, as the event writer spells them."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if value in ("NaN", "Infinity", "-Infinity") and isinstance(value, str) else None
