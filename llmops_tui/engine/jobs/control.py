"""What the user asks of a running job: lines appended to `control.jsonl`, read by offset, and SIGTERM."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import FrameType

import psutil


class StoppedError(Exception):
    """The run was asked to stop at a moment when there is nothing to save."""


def born() -> float:
    """When this process began, Unix seconds."""
    return psutil.Process().create_time()


def _meant_for_others(run_dir: Path) -> int | None:
    """The bytes of control.jsonl that stood before this attempt was launched; None when nobody noted them."""
    if (told := os.environ.get("LLMOPS_CONTROL_BYTES", "")).isdecimal():
        return int(told)
    try:
        launch = json.loads((run_dir / f"attempt-{os.environ['LLMOPS_ATTEMPT']}" / "launch.json").read_bytes())
        return int(launch["control_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class ControlChannel:
    """Polled by the working thread, a stat a call. `stop` and `checkpoint` stay set until taken."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "control.jsonl"
        # Commands given to an earlier attempt stand in the same file. Told apart by size: a clock may be set while we run.
        # Without a launch.json (a job by hand) what came before this process was born is not for it.
        begin = _meant_for_others(run_dir)
        self._offset = begin or 0
        self._born = born() if begin is None else 0.0
        self.stop = False
        self._checkpoint = False
        signal.signal(signal.SIGTERM, self._terminate)

    def poll(self) -> None:
        """Read what was appended since the last call."""
        try:
            if self._path.stat().st_size <= self._offset:
                return
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content.rfind(b"\n") + 1
        self._offset += whole
        for line in content[:whole].splitlines():
            self._obey(line)

    def take_checkpoint(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked, self._checkpoint = self._checkpoint, False
        return asked

    def raise_if_stopped(self) -> None:
        """Between two pieces of work that leave nothing to save."""
        self.poll()
        if self.stop:
            raise StoppedError

    def _obey(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            command, given = record["command"], float(record["t"])
        except (ValueError, KeyError, TypeError):
            print(f"control.jsonl: not a command, skipped: {line[:200]!r}", flush=True)
            return
        if given < self._born:
            return
        if command == "stop":
            self.stop = True
        elif command == "checkpoint":
            self._checkpoint = True
        else:
            print(f"control.jsonl: unknown command {command!r}, skipped", flush=True)

    def _terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop = True
