"""What a run was asked to do and what became of it, as rows; pure functions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmops_tui.screens.palette import STATE_ROLES
from llmops_tui.screens.widgets.axes import bytes_text, duration_text
from llmops_tui.screens.widgets.lines import Run, spaced
from llmops_tui.screens.widgets.panels import elapsed_seconds, eta_of, progress_run, state_run
from llmops_tui.screens.widgets.table import Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary

_BAR_CELLS = 24


def title_line(run: RunSummary | None, run_id: str, width: int, now: float, ascii_only: bool) -> list[Run]:
    """The run's id, state, progress and times in one line."""
    if run is None:
        return [(f" {run_id}", "bright")]
    left: list[Run] = [(f" {run['id']}  ", "bright"), state_run(run["state"])]
    if run["attempt"] > 1:
        left.append((f" attempt {run['attempt']}", "warn"))
    progress = run["progress"]
    if progress is not None and run["state"] != "succeeded":
        left += [("  ", "text"), progress_run(run, min(_BAR_CELLS, max(10, width - 62)), ascii_only), (f" {progress['phase']}", "muted")]
    if run["reason"] and (progress is None or run["state"] not in ("running", "starting")):
        left.append((f"  {run['reason']}", "muted"))
    eta = eta_of(run)
    right: list[Run] = [(f"eta {eta} " if eta and eta != "-" else "", "text"), (f" {duration_text(elapsed_seconds(run, now))} ", "muted")]
    return spaced(left, right, width)


def fact_rows(detail: RunDetail | None, run: RunSummary | None) -> list[Row]:
    """State, checkpoints, what was decided, then the whole spec."""
    if detail is None:
        return []
    shown = run or detail
    rows: list[Row] = []

    def add(name: str, value: str, role: str = "text") -> None:
        rows.append(Row(f"{len(rows)} {name}", ((name, "muted"), (value, role))))

    add("state", shown["state"].replace("_", " ") + (f": {shown['reason']}" if shown["reason"] else ""), STATE_ROLES[shown["state"]])
    if shown["exit_code"] is not None:
        add("exit code", str(shown["exit_code"]), "text" if shown["exit_code"] == 0 else "bad")
    add("attempt", str(shown["attempt"]))
    if shown["gpus"]:
        add("gpus", ", ".join(shown["gpus"]))
    add("submitted", _clock(shown["submitted_at"]) + f" by {shown['owner']}")
    if shown["started_at"]:
        add("started", _clock(shown["started_at"]))
    if shown["ended_at"]:
        add("ended", _clock(shown["ended_at"]))
    add("directory", detail["directory"])
    for checkpoint in reversed(detail["checkpoints"]):
        add("checkpoint", f"step {checkpoint['step']}  {bytes_text(checkpoint['bytes'])}  {_clock(checkpoint['t'])}", "good")
    for name, text in _flat("", detail["spec"]):
        add(name, text)
    for entry in reversed(detail["journal"]):
        what = entry["state"] or entry["entry"]
        add(_clock(entry["t"]), f"{what} {entry['reason']}".rstrip(), STATE_ROLES.get(what, "text"))
    return rows


def _clock(t: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(t))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """The set fields of a spec by their dotted names; what is empty says nothing."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(f"{prefix}{name}.", inner)
        elif inner not in (None, "", [], {}):
            yield f"{prefix}{name}", ", ".join(map(str, inner)) if isinstance(inner, list) else str(inner)
