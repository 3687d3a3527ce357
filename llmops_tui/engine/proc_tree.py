"""The processes of a run found without its shim: by the environment they inherited, and by their parents."""

from __future__ import annotations

import contextlib
import os
import signal

from llmops_tui.data.rundir import RunDir


def tree_of(run: RunDir) -> list[int]:
    """Every process that was started for this run, or descends from one that was; zombies left out."""
    mark = b"LLMOPS_RUN_DIR=" + os.fsencode(run.path.absolute())
    believed = _believed(run)
    found: set[int] = set()
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] == b"Z":
                continue
            children.setdefault(int(fields[1]), []).append(pid)
            if os.stat(f"/proc/{pid}").st_uid not in believed:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.add(pid)
        except OSError:  # gone meanwhile, or another user's
            continue
    order = sorted(found)
    for pid in order:  # grows while it is walked
        for child in children.get(pid, []):
            if child not in found:
                found.add(child)
                order.append(child)
    return [pid for pid in order if pid != os.getpid()]


def _believed(run: RunDir) -> set[int]:
    """Whose word counts that a process belongs to the run: ours, and that of the user whose job it is (submitter.py)."""
    try:
        return {os.geteuid(), os.lstat(run.log).st_uid}
    except OSError:
        return {os.geteuid()}


def signal_tree(run: RunDir, number: signal.Signals) -> list[int]:
    """Send a signal to every process of the run; returns those that got it."""
    reached = []
    for pid in tree_of(run):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            reached.append(pid)
    return reached
