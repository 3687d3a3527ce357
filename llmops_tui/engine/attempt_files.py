"""What the files of one attempt say about it. Reads only, except `claim_for_engine`; every call may block on the disk."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json, sync_directory
from llmops_tui.data.event_lines import LONGEST_LINE_BYTES
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.proc_tree import tree_of
from llmops_tui.engine.shim import boot_id, start_ticks

_END_TAIL_BYTES = 4 << 20
_MOST_MODELS = 100


@dataclass(frozen=True)
class Look:
    """One look at an attempt. `claimed` without `shim_alive` and without `exit_record` means that its shim died."""

    claimed: bool
    shim_alive: bool
    exit_record: dict[str, Any] | None
    launch_ready: bool
    rebooted: bool


def look(run: RunDir, attempt: int) -> Look:
    """The order matters: a shim holds its lock from before the claim until after exit.json."""
    directory = run.attempt(attempt)
    claimed = (directory / "claim").exists()
    alive = run.shim_alive()
    claim = read_record(directory / "claim")
    owner_boot = claim.get("boot_id") if claim else None
    return Look(
        claimed=claimed,
        shim_alive=alive,
        exit_record=read_record(directory / "exit.json"),
        launch_ready=(directory / "launch.json").exists(),
        rebooted=owner_boot is not None and owner_boot != boot_id(),
    )


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none (yet)."""
    try:
        value = read_json(path)
    except (ValueError, OSError):
        return None
    return value if isinstance(value, dict) else None


def shim_pidfd(run: RunDir, attempt: int) -> int | None:
    """A descriptor of the shim that owns the attempt; None when it cannot be had. Close it.

    The pid is believed only if the process began when the claim says, and the lock is still held after it was opened.
    """
    claim = read_record(run.attempt(attempt) / "claim") or {}
    pid, ticks = claim.get("shim_pid"), claim.get("shim_start_ticks")
    if not isinstance(pid, int) or claim.get("boot_id") != boot_id():
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    if start_ticks(pid) != ticks or not run.shim_alive():
        os.close(descriptor)
        return None
    return descriptor


def tree_left(run: RunDir) -> bool:
    """Whether any process of the job is left, seen by the inherited lock or, where a child closed it, by the environment."""
    return run.tree_alive() or bool(tree_of(run))


def claim_for_engine(run: RunDir, attempt: int) -> bool:
    """Own the attempt so that no shim on its way can begin it; False when a shim was first. Raises OSError (full disk)."""
    directory = run.attempt(attempt)
    directory.mkdir(exist_ok=True)
    try:
        descriptor = os.open(directory / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, json.dumps({"by": "engine", "boot_id": boot_id()}).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(directory)
    return True


def owned_by_engine(run: RunDir, attempt: int) -> bool:
    """Whether the engine claimed the attempt so that it never begins."""
    return (read_record(run.attempt(attempt) / "claim") or {}).get("by") == "engine"


def end_event(run: RunDir, attempt: int) -> dict[str, Any] | None:
    """The newest `end` event this attempt told, from the end of the file."""
    try:
        with open(run.events, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(_begin(run, attempt), size - _END_TAIL_BYTES))
            tail = file.read()
    except OSError:
        return None
    return next((event for line in reversed(tail.split(b"\n")) if (event := _event(line, "end", attempt)) is not None), None)


def told_at_the_end(run: RunDir, attempt: int) -> dict[str, Any]:
    """The summary of the attempt's `end` event; empty where it told none."""
    summary = (end_event(run, attempt) or {}).get("summary")
    return summary if isinstance(summary, dict) else {}


def end_time(run: RunDir, attempt: int, started_at: float | None) -> float:
    """When the attempt ended: by exit.json, else by its `end` event, else now, as nobody noted it.

    A job writes what it likes into its event, so a time before its start or after now is not believed.
    """
    now = time.time()
    exit_record = read_record(run.attempt(attempt) / "exit.json")
    told = exit_record or (end_event(run, attempt) if started_at is not None else None) or {}
    t = told.get("t")
    believed = isinstance(t, int | float) and not isinstance(t, bool) and (started_at or 0.0) <= t <= now
    return float(t) if believed else now  # type: ignore[arg-type]


def _begin(run: RunDir, attempt: int) -> int:
    """Where the attempt's own lines begin: programs that know of no attempts do not number theirs."""
    begin = (read_record(run.attempt(attempt) / "launch.json") or {}).get("events_bytes")
    return begin if isinstance(begin, int) else 0


def model_events(run: RunDir, attempt: int) -> list[dict[str, Any]]:
    """The `artifact` events of the attempt that name models, in order; no more than any run makes."""
    return artifact_events(run, attempt, "model")


def artifact_events(run: RunDir, attempt: int, kind: str) -> list[dict[str, Any]]:
    """The same for `artifact` events of another kind, such as "candidate"."""
    found: list[dict[str, Any]] = []
    try:
        with open(run.events, "rb") as file:
            file.seek(_begin(run, attempt))
            while len(found) < _MOST_MODELS and (line := file.readline(LONGEST_LINE_BYTES)):
                event = _event(line, "artifact", attempt)
                if event is not None and event.get("artifact") == kind:
                    found.append(event)
    except OSError:
        return found
    return found


def _event(line: bytes, kind: str, attempt: int) -> dict[str, Any] | None:
    """An event of this type and attempt; None for another one, and for the nonsense that a job may write."""
    if f'"{kind}"'.encode() not in line:
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    mine = isinstance(event, dict) and event.get("type") == kind and event.get("attempt", attempt) == attempt
    return event if mine else None
