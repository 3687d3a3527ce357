"""Whose is a process that holds GPU memory? A run of ours, or a foreign owner with a name."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import psutil

from llmops_tui.specs.answers import GpuProcess

_COMMAND_LENGTH = 200
log = logging.getLogger(__name__)


class ProcessDirectory:
    """Names processes, and remembers the answer while the process lives.

    `runs_of_pid` is asked from the GPU threads, once for each process, and must not block. `home` keeps two engines on one
    box apart: their run ids look alike, and only `LLMOPS_HOME` tells whose job it is.
    """

    def __init__(self, runs_of_pid: Callable[[int], str | None], home: Path | None = None) -> None:
        self._runs_of_pid = runs_of_pid
        self._home = home
        self._own_name = psutil.Process().username()
        self._known: dict[tuple[int, int], GpuProcess] = {}

    def describe(self, processes: list[tuple[int, int | None]]) -> list[GpuProcess]:
        """The rows of one GPU; forgets those who are gone."""
        rows: dict[tuple[int, int], GpuProcess] = {}
        for pid, memory_bytes in processes:
            started = _start_ticks(pid)
            known = self._known.get((pid, started)) if started is not None else None
            row = known or self._look_up(pid)
            rows[pid, started or 0] = {**row, "memory_bytes": memory_bytes}
        # A process that is not ours yet may be claimed later (adopted after a restart): only names that stay are kept.
        self._known = {key: row for key, row in rows.items() if key[1] and (row["run"] or row["owner"] != self._own_name)}
        return list(rows.values())

    def _look_up(self, pid: int) -> GpuProcess:
        run = run_of_process(pid, self._home)
        if run is None:
            try:
                run = self._runs_of_pid(pid)
            except Exception:
                log.exception("could not ask for the run of process %d", pid)
        owner, command = _owner_and_command(pid)
        return {"pid": pid, "memory_bytes": None, "run": run, "owner": owner, "command": command}


def run_of_process(pid: int, home: Path | None = None) -> str | None:
    """The run that this process was started for, from the environment it inherited.

    Believed are own processes and, by root, those of the user whose run they name: anybody could name another's.
    """
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        if uid != os.getuid() and os.getuid() != 0:
            return None
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    variables = dict(entry.split(b"=", 1) for entry in content.split(b"\0") if b"=" in entry)
    run = variables.get(b"LLMOPS_RUN_ID")
    if run is None or (home is not None and os.fsdecode(variables.get(b"LLMOPS_HOME", b"")) != str(home)):
        return None
    name = os.fsdecode(run)
    if uid != os.getuid() and (home is None or not _is_owner(home / "runs" / os.path.basename(name), uid)):
        return None
    return name


def _is_owner(run_directory: Path, uid: int) -> bool:
    """Whether the job of this run is that user's: the run's output was made for its job (submitter.py)."""
    try:
        return os.lstat(run_directory / "stdout.log").st_uid == uid
    except OSError:
        return False


def _owner_and_command(pid: int) -> tuple[str, str]:
    """User name and command line, as far as the kernel tells; empty for a process that is gone or hidden."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            owner = process.username()
            try:
                words = process.cmdline()
            except psutil.Error:
                words = []
            return owner, (" ".join(words) or process.name())[:_COMMAND_LENGTH]
    except (psutil.Error, OSError):
        return "", ""


def _start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (man 5 proc, field 22): with the pid it names a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat[stat.rindex(b")") + 2 :].split()[19])
    except (OSError, ValueError, IndexError):
        return None
