"""A run's row in the database, from its directory alone: what a rebuild can know of it."""

from __future__ import annotations

from typing import Any

from llmops_tui.data.annotation import fold_annotations
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.usage import Usage, read_meter
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.states import ENDED, WAITING


def summary_of(run: RunDir, record: dict[str, Any]) -> RunSummary:
    """The row SQL users see until the engine, which knows more (locks, exit codes), writes its own.

    Raises ValueError or TypeError for a spec or journal that holds nonsense.
    """
    spec: dict[str, Any] = record["spec"] if isinstance(record.get("spec"), dict) else {}
    journal = run.read_journal()
    states = [entry for entry in journal if entry.get("entry") == "state"]
    written = fold_annotations(journal)
    last: dict[str, Any] = states[-1] if states else {}
    started_at, ended_at, exit_code = _times(states)
    used = _usage(run, states)
    return RunSummary(
        id=run.id,
        kind=str(spec.get("kind", "")),
        name=str(spec.get("name", "")),
        state=str(last.get("state") or "queued"),
        reason=str(last.get("reason") or ""),
        attempt=int(last.get("attempt") or 0),
        priority=int(spec.get("priority") or 0),
        queue_position=None,
        owner=str(record.get("owner", "")),
        tags=[str(tag) for tag in spec.get("tags") or []] if written.tags is None else written.tags,
        note=str(spec.get("notes") or "") if written.note is None else written.note,
        baseline=bool(written.baseline),
        submitted_at=float(record.get("submitted_at") or 0.0),
        started_at=started_at,
        ended_at=ended_at,
        exit_code=exit_code,
        gpus=[],
        progress=None,
        latest={},
        gpu_seconds=used.gpu_seconds,
        energy_joules=used.joules,
        cost=None,
        parent=str(record.get("parent") or ""),
    )


def _times(states: list[dict[str, Any]]) -> tuple[float | None, float | None, int | None]:
    """Start, end and exit code of the newest attempt. `t` is when the engine noted it, which may be long after it was so."""
    started_at = ended_at = exit_code = None
    for entry in states:
        data = entry["data"] if isinstance(entry.get("data"), dict) else {}
        noted_at = entry.get("t")
        if entry.get("state") == "running":
            started_at = _number(data.get("started_at"), noted_at)
        elif entry.get("state") in ENDED:
            ended_at, code = _number(data.get("ended_at"), noted_at), data.get("exit")
            exit_code = code if isinstance(code, int) else None
        elif entry.get("state") in WAITING:
            started_at = ended_at = exit_code = None
    return started_at, ended_at, exit_code


def _usage(run: RunDir, states: list[dict[str, Any]]) -> Usage:
    """What the journal says, and of an attempt that goes on what the engine noted last."""
    used = Usage()
    for entry in states:
        used.apply(entry)
    if used.held_since is not None:
        noted = read_meter(run, int(states[-1].get("attempt") or 0))
        used.open_joules = _number(noted.get("joules"))
    return used


def _number(*candidates: object) -> float | None:
    return next((float(value) for value in candidates if isinstance(value, int | float)), None)
