"""What the user asks of a running job: lines appended to `control.jsonl`, read by offset, and SIGTERM.

Of several ranks the first one reads, and all hear of it at the same step (`agree`): ranks that would each look for themselves
would stop, save or evaluate at different steps, and wait for each other for ever.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

_HOLD_POLL_SECONDS = 0.2
# What the trainer's callback carries out between two steps; a stop and a pause count at once.
_BETWEEN_STEPS = frozenset({"checkpoint", "evaluate", "sample", "set"})


class StoppedError(Exception):
    """The run was asked to stop at a moment when there is nothing to save."""


@dataclass(frozen=True)
class Request:
    """One wish; `who` asked for it, `arguments` are what belongs to its command."""

    command: str
    who: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Known:
    """What is asked for: as this process heard it, or as all ranks agreed."""

    stop: bool = False
    held: bool = False
    ending: Request = Request("")
    waiting: list[Request] = field(default_factory=list)


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
    """Polled by the working thread, a stat a call. A stop stays set; a hold until it is resumed.

    Of several ranks each goes by what was agreed last: what the first one hears meanwhile, SIGTERM too, waits for the next step.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "control.jsonl"
        # Commands given to an earlier attempt stand in the same file. Told apart by size: a clock may be set while we run.
        # Without a launch.json (a job by hand) what came before this process was born is not for it.
        begin = _meant_for_others(run_dir)
        self._offset = begin or 0
        self._born = born() if begin is None else 0.0
        self._heard = _Known()
        self._agreed = _Known()
        signal.signal(signal.SIGTERM, self._terminate)

    @property
    def stop(self) -> bool:
        """Whether it shall save and end."""
        return self._known.stop

    @property
    def held(self) -> bool:
        """Whether it shall keep still, with all its memory."""
        return self._known.held

    @property
    def ending(self) -> Request:
        """Why it shall end: a stop or a pause; an empty command for SIGTERM, which tells no reason."""
        return self._known.ending

    @property
    def _known(self) -> _Known:
        return self._heard if _ranks() == 1 else self._agreed

    def poll(self) -> None:
        """Read what was appended since the last call; of several ranks only the first one does."""
        if _rank() != 0:
            return
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

    def agree(self) -> None:
        """Make every rank know what the first one knows. A collective call: all make it after the same step; one alone does nothing."""
        if _ranks() == 1:
            return
        import torch.distributed

        heard = self._heard
        told = [_Known(heard.stop, heard.held, heard.ending, heard.waiting)]
        heard.waiting = []
        torch.distributed.broadcast_object_list(told, src=0)
        told[0].waiting = self._agreed.waiting + told[0].waiting
        self._agreed = told[0]

    def take(self) -> list[Request]:
        """What was asked for since the last call and is carried out between two steps, in the order it was asked."""
        known = self._known
        asked, known.waiting = known.waiting, []
        return asked

    def raise_if_stopped(self) -> None:
        """Between two pieces of work that leave nothing to save. Of several ranks none leaves the others: they stop after the step."""
        self.poll()
        if self.stop and _ranks() == 1:
            raise StoppedError

    def wait_while_held(self, beat: Callable[[], None]) -> float:
        """Keep still while it is held, and say so with `beat`; returns the seconds that took."""
        begun = time.monotonic()
        while self.held and not self.stop:
            beat()
            time.sleep(_HOLD_POLL_SECONDS)
            self.poll()
            self.agree()
        return time.monotonic() - begun

    def _obey(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            command, given = record.pop("command"), float(record.pop("t"))
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"control.jsonl: not a command, skipped: {line[:200]!r}", flush=True)
            return
        if given < self._born:
            return
        who = str(record.pop("who", ""))
        record.pop("by", None)
        request = Request(str(command), who, record)
        if command == "stop" or (command == "pause" and record.get("mode") != "hold"):
            self._heard.stop, self._heard.ending = True, request
        elif command == "pause":
            self._heard.held = True
            self._heard.waiting.append(request)
        elif command == "resume":
            self._heard.held = False
            self._heard.waiting.append(request)
        elif command in _BETWEEN_STEPS:
            self._heard.waiting.append(request)
        else:
            print(f"control.jsonl: unknown command {command!r}, skipped", flush=True)

    def _terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._heard.stop = True


def _ranks() -> int:
    """How many processes train together; 1 where torch was not even imported."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return int(distributed.get_world_size())


def _rank() -> int:
    return int(sys.modules["torch.distributed"].get_rank()) if _ranks() > 1 else 0
