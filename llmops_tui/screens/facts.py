"""What a run was asked to do and what became of it, as rows; pure functions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_tui.screens.palette import STATE_ROLES
from llmops_tui.screens.run_cells import cost_text, energy_text
from llmops_tui.screens.widgets.axes import bytes_text, duration_text, value_text
from llmops_tui.screens.widgets.lines import Run, spaced
from llmops_tui.screens.widgets.marks import Mark
from llmops_tui.screens.widgets.panels import elapsed_seconds, eta_of, progress_run, state_run
from llmops_tui.screens.widgets.table import Column, Row
from llmops_tui.specs.outcome_text import outcome_lines

if TYPE_CHECKING:
    from llmops_tui.screens.widgets.curve import Curve
    from llmops_tui.specs.answers import RunDetail, RunSummary

_BAR_CELLS = 24
_BRIGHT = ("kept", "verified", "perplexity recovered")


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
    if run["baseline"]:
        left.append(("  baseline", "accent"))
    held = run["reason"].startswith("paused by ")
    if run["reason"] and (progress is None or held or run["state"] not in ("running", "starting")):
        left.append((f"  {run['reason']}", "muted"))
    if run["tags"]:
        left.append((f"  {' '.join(run['tags'])}", "muted"))
    if run["note"]:
        left.append((f"  “{run['note']}”", "text"))
    eta = eta_of(run)
    right: list[Run] = [(f" eta {eta} " if eta and eta != "-" else "", "text"), (f" {duration_text(elapsed_seconds(run, now))} ", "muted")]
    return spaced(left, right, width)


def fact_rows(detail: RunDetail | None, run: RunSummary | None, currency: str, moment: float | None = None) -> list[Row]:
    """State, note, what it took and what came out, then the whole spec and what was decided; with `moment` only what was so by then."""
    if detail is None:
        return []
    shown = run or detail
    rows: list[Row] = []

    def add(name: str, value: str, role: str = "text") -> None:
        rows.append(Row(f"{len(rows)} {name}", ((name, "muted"), (value, role))))

    add("state", shown["state"].replace("_", " ") + (f": {shown['reason']}" if shown["reason"] else ""), STATE_ROLES[shown["state"]])
    if shown["exit_code"] is not None:
        add("exit code", str(shown["exit_code"]), "text" if shown["exit_code"] == 0 else "bad")
    if shown["note"]:
        add("note", shown["note"], "bright")
    if shown["tags"] or shown["baseline"]:
        add("tags", ", ".join([*(["baseline"] if shown["baseline"] else []), *shown["tags"]]), "accent" if shown["baseline"] else "text")
    add("attempt", str(shown["attempt"]))
    if shown["gpus"]:
        add("gpus", ", ".join(shown["gpus"]))
    add("submitted", _clock(shown["submitted_at"]) + f" by {shown['owner']}")
    if shown["started_at"]:
        add("started", _clock(shown["started_at"]))
    if shown["ended_at"]:
        add("ended", _clock(shown["ended_at"]))
    if shown["gpu_seconds"]:
        add("GPU time", duration_text(shown["gpu_seconds"]))
    if shown["energy_joules"] is not None:
        add("energy", energy_text(shown["energy_joules"]))
    if shown["cost"] is not None:
        add("cost", cost_text(shown["cost"], currency))
    add("directory", detail["directory"])
    if shown["ended_at"]:
        for name, text in outcome_lines(detail.get("outcome") or {}):  # an engine of before tells none
            add(name, text, "bright" if name in _BRIGHT else "text")
    for name, text in _flat("", detail["spec"]):
        add(name, text)
    for entry in reversed(detail["journal"]):
        if moment is None or entry["t"] <= moment:
            what = entry["state"] or entry["entry"]
            add(_clock(entry["t"]), f"{what} {entry['reason']}".rstrip(), STATE_ROLES.get(what, "text"))
    return rows


CHECKPOINT_COLUMNS = (
    Column("step", 9, right=True),
    Column("loss", 9, right=True),
    Column("size", 10, right=True),
    Column("written", 15, rank=1),
    Column("path", 0, middle=True, rank=2),
)


def checkpoint_rows(detail: RunDetail | None, losses: Sequence[Curve], moment: float | None = None) -> list[Row]:
    """The checkpoints, newest first, each with the loss there: the evaluation's if there is one."""
    rows: list[Row] = []
    curve = next((curve for name in ("eval/loss", "train/loss") for curve in losses if curve.name == name), None)
    for checkpoint in reversed(detail["checkpoints"] if detail is not None else []):
        if moment is None or checkpoint["t"] <= moment:
            reading = curve.read(checkpoint["step"]) if curve is not None else None
            cells = (str(checkpoint["step"]), value_text(reading.value if reading else None), bytes_text(checkpoint["bytes"]))
            rows.append(
                Row(
                    f"{checkpoint['step']} {checkpoint['path']}",
                    (
                        (cells[0], "good"),
                        (cells[1], "text"),
                        (cells[2], "muted"),
                        (_clock(checkpoint["t"]), "muted"),
                        (checkpoint["path"], "text"),
                    ),
                )
            )
    return rows


def capsule_rows(detail: RunDetail | None) -> list[Row]:
    """What makes the run reproducible, a heading a part; the packages last, because they are many."""
    capsule = detail["capsule"] if detail is not None else None
    if not capsule:
        return []
    rows: list[Row] = []
    parts = {name: capsule.get(name) for name in ("git", "driver", "gpus", "seeds", "prepared", "host", "env")}
    python = capsule.get("python") or {}
    parts["python"] = {name: value for name, value in python.items() if name != "packages"}
    parts["packages"] = python.get("packages")
    for title, part in parts.items():
        told = list(_flat("", part)) if isinstance(part, dict) else [(str(at), _word(item)) for at, item in enumerate(part or [])]
        if told:
            rows.append(Row(f"title {title}", ((title, "title"),), title=True))
            rows += [Row(f"{title} {name}", ((name, "muted"), (text, "text"))) for name, text in told]
    return rows


def event_marks(detail: RunDetail | None, moment: float | None = None) -> list[Mark]:
    """What happened to the run, as lines of its chart: checkpoints, attempts after the first, and what its user asked of it."""
    if detail is None:
        return []
    marks = [Mark("checkpoint", float(checkpoint["step"]), checkpoint["t"]) for checkpoint in detail["checkpoints"]]
    for entry in detail["journal"]:
        if entry["state"] == "running" and entry["attempt"] > 1:
            marks.append(Mark("retry", None, entry["t"], f"attempt {entry['attempt']}"))
        elif entry["entry"] == "control":
            marks.append(Mark(str(entry["data"].get("command") or "control"), None, entry["t"], entry["reason"]))
        elif entry["state"] == "paused":
            marks.append(Mark("pause", None, entry["t"], "its memory was free from here on"))
    return [mark for mark in marks if moment is None or mark.t is None or mark.t <= moment]


def _clock(t: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(t))


def _flat(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The set fields by their dotted names; what is empty says nothing."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(f"{prefix}{name}.", inner)
        elif inner not in (None, "", [], {}):
            yield f"{prefix}{name}", _word(inner)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner not in (None, ""))
    return ", ".join(map(_word, value)) if isinstance(value, list) else str(value)
