"""Tokens of today by key, through a restart: a note each few seconds, and what the spool has beyond it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import orjson

from llmops_tui.engine.serving.gateway.core import Core

_EVERY_SECONDS = 5.0
_log = logging.getLogger("gateway")


class Budgets:
    """Keeps what keys used today in HOME/serving/gateway/budgets.json, with the place in the spool that it counts up to."""

    def __init__(self, directory: Path, core: Core) -> None:
        self._path = directory / "budgets.json"
        self._spool = directory / "spool"
        self._core = core
        self._saved = 0.0
        self._last: dict[str, int] = {}

    def restore(self) -> None:
        """Read the note, and count the records that were written after it."""
        day = today = self._core.keys.day
        used: dict[str, int] = {}
        file, offset = "", 0
        try:
            note = orjson.loads(self._path.read_bytes())
            # Tomorrow's, where the clock has been set back over midnight since: it goes on as it would have without a restart.
            if isinstance(note, dict) and note.get("day") in (today, today + 1):
                used = {str(name): int(count) for name, count in dict(note["used"]).items()}
                file, offset = str(note["file"]), int(note["offset"])
                day = int(note["day"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s is not readable, today's use is counted from the records: %s", self._path, error)
        for path in sorted(self._spool.glob("requests-*.jsonl")):
            if path.name < file or path.stat().st_mtime < today * 86400:
                continue
            with path.open("rb") as lines:
                if path.name == file:
                    lines.seek(offset)
                for line in lines:
                    _count(line, today, used)
        self._core.keys.restore(used, day)

    def tick(self) -> None:
        """Save every few seconds when something was used."""
        now = time.monotonic()
        if now - self._saved >= _EVERY_SECONDS:
            self._saved = now
            if self._core.keys.used_today() != self._last:
                self.save()

    def save(self) -> None:
        self._core.write_records()  # what is counted here stands before the place that is noted
        self._last = self._core.keys.used_today()
        file, offset = self._core.spool.position()
        beside = self._path.with_name("budgets.json.new")
        try:
            beside.write_bytes(orjson.dumps({"day": self._core.keys.day, "used": self._last, "file": file, "offset": offset}))
            beside.replace(self._path)
        except OSError as error:
            _log.warning("today's use cannot be kept for a restart: %s", error)


def _count(line: bytes, day: int, used: dict[str, int]) -> None:
    try:
        record = orjson.loads(line)
        if record.get("key") and record.get("type") == "request" and record["t"] >= day * 86400:
            tokens = (record["prompt_tokens"] or 0) + (record["completion_tokens"] or 0)
            used[record["key"]] = used.get(record["key"], 0) + tokens
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # half a line, left by a machine that lost its power
