"""A run's directory: the truth about that run. DuckDB only indexes what stands here.

runs/train-fiqa-0007/
  spec.json        the wish with who and when, written before anything starts (the queue is made of these)
  journal.jsonl    what the engine decided: states, attempts, priorities; appended by the engine alone
  events.jsonl     what the job tells: metrics, phases, checkpoints, end; appended by the job alone
  stdout.log       what the job prints, stdout and stderr as they come
  control.jsonl    what the user asks of the running job: stop, checkpoint; read by the job
  shim.lock        held by the shim while it lives
  tree.lock        inherited by the whole job tree: free only when the last process is gone
  attempt-1/       launch.json (argv, env, limits), started.json, capsule.json, energy.json (so far), exit.json, stop.json
  checkpoints/ artifacts/
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.durable import read_json, sync_directory, write_bytes, write_json

# In `runs`: the highest number ever given, so that the number of a run that was removed is not given again.
_LAST_NUMBER = ".last-number"
_GRAVE, _STAGING = ".removed-", ".new-"
_ID = re.compile(r"[a-z_]+-[a-z0-9][a-z0-9._-]*-(\d{4,})")


@dataclass(frozen=True)
class RunDir:
    """Names of the files of one run."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "stdout.log"

    @property
    def control(self) -> Path:
        return self.path / "control.jsonl"

    @property
    def shim_lock(self) -> Path:
        return self.path / "shim.lock"

    @property
    def tree_lock(self) -> Path:
        return self.path / "tree.lock"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def attempt(self, number: int) -> Path:
        return self.path / f"attempt-{number}"

    def attempt_starts(self) -> list[tuple[int, int]]:
        """`(byte of events.jsonl, attempt)` where each attempt's lines begin, newest first; never empty."""
        names = [name.removeprefix("attempt-") for name in os.listdir(self.path) if name.startswith("attempt-")]
        starts = [(0, 1)]
        for number in sorted(int(name) for name in names if name.isdecimal()):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                starts.append((int(json.loads((self.attempt(number) / "launch.json").read_bytes())["events_bytes"]), number))
        return starts[::-1]

    def shim_alive(self) -> bool:
        """Whether a shim holds its lock: the only proof of life that no pid reuse can fake."""
        return is_locked(self.shim_lock)

    def tree_alive(self) -> bool:
        """Whether any process of the job's tree is left, even after its shim was killed."""
        return is_locked(self.tree_lock)

    def append_journal(self, entry: dict[str, Any]) -> None:
        """Append one line, durable when this returns."""
        append_line(self.journal, entry, durable=True)

    def read_journal(self) -> list[dict[str, Any]]:
        """Every whole line; a torn last one (power cut) is left out."""
        return read_lines(self.journal)


def create_run(runs: Path, kind: str, name: str, record: dict[str, Any]) -> RunDir:
    """Allocate `kind-name-NNNN` with the next number and write its spec.json durably. No number is ever given twice.

    `record` gets the id. Raises OSError (full disk, read-only file system); nothing is left behind then.
    """
    runs.mkdir(parents=True, exist_ok=True)
    number = last_number(runs) + 1
    while True:
        run = RunDir(runs / f"{kind}-{name}-{number:04d}")
        # A dot directory is no run yet: a crash before the rename leaves no half-made queue entry.
        staging = runs / f"{_STAGING}{run.id}"
        if run.path.exists():
            number += 1
            continue
        try:
            staging.mkdir(exist_ok=True)
            write_json(staging / "spec.json", {"id": run.id, **record})
            write_bytes(runs / _LAST_NUMBER, b"%d\n" % number)
            staging.rename(run.path)
        except OSError:
            (staging / "spec.json").unlink(missing_ok=True)
            if staging.is_dir():
                staging.rmdir()
            raise
        sync_directory(runs)
        return run


def last_number(runs: Path) -> int:
    """The highest number given so far, be its run still there or not; 0 before the first."""
    return max([_noted_number(runs), *map(number_of, os.listdir(runs))])


def remove_run(run: RunDir) -> Path:
    """Take the run out of `runs`, durably; returns where its files lie now, to be deleted at leisure. Raises OSError."""
    runs = run.path.parent
    if number_of(run.id) > _noted_number(runs):  # runs that were copied here without the note
        write_bytes(runs / _LAST_NUMBER, b"%d\n" % last_number(runs))
    # Renamed first: half a run directory must never look like a run.
    grave = run.path.with_name(f"{_GRAVE}{run.id}")
    if grave.exists():
        shutil.rmtree(grave)
    with contextlib.suppress(FileNotFoundError):  # somebody deleted it already
        run.path.rename(grave)
    sync_directory(runs)
    return grave


def sweep_leftovers(runs: Path) -> None:
    """Delete what an engine that was killed left between a submit and its answer, or in the middle of a removal."""
    for name in os.listdir(runs) if runs.is_dir() else ():
        if name.startswith((_GRAVE, _STAGING)):
            shutil.rmtree(runs / name, ignore_errors=True)


def number_of(run_id: str) -> int:
    """The number at the end of a run id; 0 for a name that is no run id."""
    match = _ID.fullmatch(run_id)
    return int(match.group(1)) if match else 0


def list_runs(runs: Path) -> list[RunDir]:
    """Every run directory that has a number, oldest first."""
    try:
        names = [name for name in os.listdir(runs) if number_of(name)]
    except FileNotFoundError:
        return []
    return [RunDir(runs / name) for name in sorted(names, key=number_of)]


def read_spec(run: RunDir) -> dict[str, Any] | None:
    """The record written at submission: `{"id", "schema", "submitted_at", "owner", "spec", …}`."""
    value = read_json(run.spec)
    return value if isinstance(value, dict) else None


def append_line(path: Path, value: dict[str, Any], *, durable: bool = False) -> None:
    """Append one JSON line with a single write to a file opened O_APPEND.

    Raises OSError; the file is then as it was. A disk that fills up in the middle of the line leaves no half of it: that
    would become part of the next line. For files that the engine alone writes.
    """
    line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, line)
        if written < len(line):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole JSON lines of a file, skipping what is not a JSON object (a torn line)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    values = []
    for line in content.split(b"\n"):
        if line:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                values.append(value)
    return values


def is_locked(path: Path) -> bool:
    """Whether another process holds `flock` on the file; a missing file is not locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _noted_number(runs: Path) -> int:
    try:
        return int((runs / _LAST_NUMBER).read_bytes())
    except (FileNotFoundError, ValueError):  # ValueError: a damaged file; the runs that lie there still count
        return 0
