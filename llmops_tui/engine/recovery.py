"""The runs read back from their directories: what the engine had decided when it was last alive."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from llmops_tui.data.annotation import read_annotation
from llmops_tui.data.rundir import RunDir, list_runs, number_of, read_spec
from llmops_tui.engine.jobs.adjustments import read_adjustment
from llmops_tui.engine.live_run import LiveRun, StopMode
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.states import ACTIVE, ENDED, STATES, WAITING

_STOP_MODES: dict[str, StopMode] = {
    "checkpoint": "checkpoint", "now": "now", "hang": "hang", "pause": "pause", "preempt": "preempt", "rollback": "rollback",
}  # fmt: skip
log = logging.getLogger(__name__)


def load_runs(home: Home) -> list[LiveRun]:
    """Every readable run, oldest first. A directory whose spec.json or journal is broken is named in the log and left alone."""
    runs = []
    for directory in list_runs(home.runs):
        try:
            record = read_spec(directory)
        except (OSError, ValueError) as error:
            log.error("%s is left out: its spec.json cannot be read: %s", directory.path, error)
            continue
        if record is None:
            log.error("%s is left out: it has no spec.json", directory.path)
            continue
        try:
            runs.append(load_run(directory, record))
        except (OSError, ValueError, TypeError) as error:  # one damaged run must not keep the engine from all others
            log.error("%s is left out: its journal cannot be read: %s", directory.path, error)
    return runs


def load_run(directory: RunDir, record: dict[str, Any]) -> LiveRun:
    """Fold the journal into the state it describes. Active runs still have to be compared with locks and exit.json."""
    try:
        spec = parse_spec(record.get("spec"))
    except UsageError as error:
        spec, problem = None, str(error)
    else:
        problem = ""
    run = LiveRun(directory, record, spec, priority=spec.priority if spec else 0, order=float(number_of(directory.id)))
    _ = run.config  # flattened now, in a thread: the first filter over thousands of runs must not hold up the event loop
    for entry in directory.read_journal():
        apply_entry(run, entry)
        run.usage.apply(entry)
    if run.state not in ENDED:
        heal_journal(directory)
    if spec is None and run.state not in ENDED and run.state not in ACTIVE:
        run.state, run.reason = "failed", f"its spec is not valid for this version: {problem}"
    if run.state == "starting" and not (directory.attempt(run.attempt) / "launch.json").exists():
        # Decided, but nothing was told to any shim: it waits as before.
        run.state, run.reason, run.gpu_uuids, run.cpu_slots = "queued", "", [], 0
        run.usage.drop()
    return run


def apply_entry(run: LiveRun, entry: Mapping[str, Any]) -> None:
    """One journal line. What does not make sense is passed over: the files of the attempt have the last word."""
    data = entry.get("data")
    values: Mapping[str, Any] = data if isinstance(data, dict) else {}
    at = entry.get("t")
    t = float(at) if isinstance(at, int | float) else 0.0
    match entry.get("entry"):
        case "priority":
            run.priority = int(values.get("priority", run.priority))
        case "move":
            run.order = float(values.get("order", run.order))
            run.priority = int(values.get("priority", run.priority))
        case "annotate":
            run.written = read_annotation(values).over(run.written)
        case "adjusted":
            run.adjusted[int(entry.get("attempt") or run.attempt)] = read_adjustment(values.get("to"))
        case "control":
            _apply_control(run, values, str(entry.get("reason") or ""))
        case "state" if entry.get("state") in STATES:
            run.state = str(entry["state"])
            run.reason = str(entry.get("reason") or "")
            run.attempt = int(entry.get("attempt") or run.attempt)
            _apply_state(run, values, t)


def _apply_control(run: LiveRun, values: Mapping[str, Any], reason: str) -> None:
    """What was asked of the job while it ran: that it keeps still, or other settings."""
    arguments = values.get("arguments")
    match values.get("command"):
        case "pause":
            run.held, run.reason = True, reason
        case "resume":
            run.held, run.reason = False, ""
        case "set":
            run.set_live.update(read_adjustment(arguments))


def _apply_state(run: LiveRun, values: Mapping[str, Any], t: float) -> None:
    run.held = False
    if run.state in WAITING:
        run.stop, run.started_at, run.ended_at, run.exit_code, run.gpu_uuids, run.cpu_slots = "", None, None, None, [], 0
        run.retries_used = int(values.get("retries_used", run.retries_used))
        run.requeues = int(values.get("requeues", run.requeues))
    elif run.state == "starting":
        run.gpu_uuids = [str(uuid) for uuid in values.get("gpus") or []]
        run.cpu_slots = int(values.get("cpu_slots") or 0)
        memory = values.get("memory_bytes")
        run.memory_bytes = int(memory) if memory is not None else None
    elif run.state == "running":
        run.started_at = float(values.get("started_at") or t)
    elif run.state == "stopping":
        run.stop = _STOP_MODES.get(str(values.get("mode")), "now")
        run.stop_why = str(values.get("why") or "")
        if run.stop == "rollback":
            run.rollback = int(values.get("before") or 0), float(values.get("learning_rate_scale") or 1.0)
    elif run.state in ENDED:
        at = values.get("ended_at")
        run.ended_at = float(at) if isinstance(at, int | float) else t
        code = values.get("exit")
        run.exit_code = code if isinstance(code, int) else None


def heal_journal(run: RunDir) -> None:
    """Close a line that a power cut tore, so that the next entry does not become part of it."""
    try:
        descriptor = os.open(run.journal, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
