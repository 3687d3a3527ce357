"""Checkpoints of a run: which are whole, which is the newest, which go. Standard library only.

`checkpoints/checkpoint-40/complete.json` is written last, after an fsync of everything beside it, and lists each file
with its size. A directory without it, or with a file of another size, is a half-written checkpoint: never resumed from.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import sync_directory, write_json
from llmops_tui.data.rundir import RunDir
from llmops_tui.specs.answers import Checkpoint

MARKER = "complete.json"
_LARGEST_MARKER_BYTES = 4 << 20


def mark_complete(directory: Path, step: int) -> Checkpoint:
    """Make everything in `directory` durable, then say so in its marker. Raises OSError (full disk): then it is unmarked."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MARKER)
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    for folder in [directory, *sorted({path.parent for path in files} - {directory})]:
        sync_directory(folder)
    sync_directory(directory.parent)
    sizes = {str(path.relative_to(directory)): path.stat().st_size for path in files}
    now = time.time()
    write_json(directory / MARKER, {"step": step, "t": now, "files": sizes})
    return Checkpoint(step=step, path=str(directory), bytes=sum(sizes.values()), t=now)


def complete_checkpoints(run: RunDir) -> list[Checkpoint]:
    """Every whole checkpoint, lowest step first; `path` is absolute where the run's is."""
    found = (_read(directory) for directory in _directories(run))
    return sorted((checkpoint for checkpoint in found if checkpoint is not None), key=lambda checkpoint: checkpoint["step"])


def newest_complete(run: RunDir) -> Path | None:
    """The directory to resume from, or None where no whole checkpoint exists."""
    checkpoints = complete_checkpoints(run)
    return Path(checkpoints[-1]["path"]) if checkpoints else None


def broken_after(run: RunDir, step: int) -> list[str]:
    """What is wrong with each checkpoint that is newer than `step` and not whole, a line each: these are passed over."""
    found = []
    for directory in sorted(_directories(run), key=_step_by_name):
        if _step_by_name(directory) > step and _read(directory) is None:
            found.append(f"{directory.name} {_why_not_whole(directory)}")
    return found


def discard_from(run: RunDir, step: int) -> int | None:
    """Give up every checkpoint of `step` and later, while no job of the run lives; the step of the newest one that is left, if any."""
    kept = None
    for checkpoint in complete_checkpoints(run):
        if checkpoint["step"] >= step:
            (Path(checkpoint["path"]) / MARKER).unlink(missing_ok=True)  # first, as in `prune`
            shutil.rmtree(checkpoint["path"], ignore_errors=True)
        else:
            kept = checkpoint["step"]
    return kept


def prune(run: RunDir, keep: int, spare: int | None = None) -> list[Path]:
    """Remove all but the newest `keep` whole checkpoints and that of step `spare`, and half-written ones; returns what went.

    Only for the job that writes the checkpoints, between two of them: a directory being written looks half-written.
    """
    whole = complete_checkpoints(run)
    spared = [checkpoint for checkpoint in whole if checkpoint["step"] == spare]
    kept = {checkpoint["path"] for checkpoint in [*whole[-keep:], *spared]}
    removed = [directory for directory in _directories(run) if str(directory) not in kept]
    for directory in removed:
        # The marker first: a kill in the middle must not leave a directory that claims to be whole.
        (directory / MARKER).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
    return removed


def _directories(run: RunDir) -> list[Path]:
    try:
        return sorted(entry for entry in run.checkpoints.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def _step_by_name(directory: Path) -> int:
    number = directory.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _why_not_whole(directory: Path) -> str:
    """Of one that `_read` does not take. Names of files come from its marker only where they lie below it."""
    try:
        marker: Any = _read_marker(directory / MARKER)
        sizes: dict[str, int] = marker["files"]
        if _lie_below(directory, sizes):
            for name, size in sizes.items():
                path = directory / name
                if not path.exists():
                    return f"lacks {name}"
                if path.stat().st_size != size:
                    return f"is torn: {name} has {path.stat().st_size:,} of {size:,} bytes"
    except FileNotFoundError:
        return "was never finished"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    return f"has no {MARKER} that can be read"


def _read_marker(path: Path) -> Any:
    """As JSON. The job's user may have put anything there, and the engine may be root's: a plain file of sensible size, or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_MARKER_BYTES:
            raise OSError(f"{path} is no marker")
        return json.loads(file.read())


def _read(directory: Path) -> Checkpoint | None:
    try:
        marker: Any = _read_marker(directory / MARKER)
        sizes: dict[str, int] = marker["files"]
        if not _lie_below(directory, sizes) or any((directory / name).stat().st_size != size for name, size in sizes.items()):
            return None
        return Checkpoint(step=int(marker["step"]), path=str(directory), bytes=sum(sizes.values()), t=float(marker["t"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None  # no marker, or not one of ours: the directory is not whole


def _lie_below(directory: Path, names: Iterable[str]) -> bool:
    """Whether all of these are files of this run's checkpoints: a marker must not make us tell the size of somebody else's file."""
    checkpoints = directory.parent.resolve()
    return all(path.resolve().is_relative_to(checkpoints) for path in {directory / name for name in names})
