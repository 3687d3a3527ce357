"""What is asked of a serving run: lines of `control.jsonl`, read by offset, and SIGTERM. Standard library only.

Other than jobs/control.py this imports no psutil: a replica's keeper lives for months beside what it keeps.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMANDS = frozenset({"drain", "sleep", "wake", "load_adapter", "unload_adapter", "stop"})


@dataclass(frozen=True)
class Wish:
    """One line; `who` asked for it."""

    command: str
    who: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


class WishFile:
    """The lines appended after this attempt was launched: those before were meant for earlier ones."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "control.jsonl"
        told = os.environ.get("LLMOPS_CONTROL_BYTES", "")
        self._offset = int(told) if told.isdecimal() else 0

    def take(self) -> list[Wish]:
        """What was asked since the last call, whole lines only, in order."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content.rfind(b"\n") + 1
        self._offset += whole
        wishes = [_read(line) for line in content[:whole].splitlines()]
        return [wish for wish in wishes if wish is not None]


def _read(line: bytes) -> Wish | None:
    try:
        record = json.loads(line)
        command = str(record.pop("command"))
    except (ValueError, KeyError, TypeError, AttributeError):
        print(f"control.jsonl: not a command, skipped: {line[:200]!r}", flush=True)
        return None
    if command not in COMMANDS:
        print(f"control.jsonl: {command!r} is nothing a serving run does, skipped", flush=True)
        return None
    who = str(record.pop("who", ""))
    for name in ("t", "by"):
        record.pop(name, None)
    return Wish(command, who, record)
