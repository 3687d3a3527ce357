"""The columns of the runs table and what stands in them; pure functions."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from llmops_tui.screens.widgets.axes import duration_text
from llmops_tui.screens.widgets.lines import Run, fit_middle
from llmops_tui.screens.widgets.panels import elapsed_seconds, loss_of, progress_run, state_run
from llmops_tui.screens.widgets.table import Column, Row
from llmops_tui.specs.run_config import flatten
from llmops_tui.specs.states import ACTIVE, WAITING

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail, RunSummary, Scalar

LOSS_SORT = "metric.train/loss"
_PROGRESS_CELLS = 12
_ADDED_CELLS = 12
_DAY_SECONDS = 86400.0


def run_columns(added: Sequence[str], costs: bool) -> list[Column]:
    """The table's headings: the fixed ones, cost and energy where they are known, and those the user added."""
    return [
        Column("run", 0, middle=True, sort="id", falls=True, least=20),
        Column("state", 15, sort="state"),
        Column("tags", 0, rank=4, least=11),
        Column("progress", _PROGRESS_CELLS, rank=5),
        Column("submitted", 11, rank=3, sort="submitted", falls=True),
        Column("time", 7, right=True, sort="duration", falls=True),
        Column("loss", 8, right=True, sort=LOSS_SORT),
        *([Column("cost", 9, right=True, rank=6), Column("energy", 9, right=True, rank=7)] if costs else []),
        *(Column(short_name(name), max(_ADDED_CELLS, len(short_name(name)) + 2), right=True, sort=name) for name in added),
    ]


def run_row(
    run: RunSummary, added: Sequence[str], values: dict[str, Scalar], costs: bool, now: float, ascii_only: bool, currency: str
) -> Row:
    """One run's cells in the columns' order."""
    state = run["state"]
    waiting = state in WAITING
    loss = loss_of(run)
    told = (
        (run["reason"], "muted")
        if run["reason"] and (waiting or state not in ACTIVE | {"succeeded"})
        else progress_run(run, _PROGRESS_CELLS, ascii_only)
    )
    cells: list[Run] = [
        (run["id"], "bright" if state in ACTIVE else "text"),
        state_run(state),
        _tags(run),
        told,
        (moment_text(run["submitted_at"], now), "muted"),
        (duration_text(elapsed_seconds(run, now)), "muted"),
        (loss, "bad" if loss in ("nan", "inf", "-inf") else "text"),
    ]
    if costs:
        cells += [(cost_text(run["cost"], currency), "text"), (energy_text(run["energy_joules"]), "muted")]
    cells += [(scalar_text(values.get(name)), "accent") for name in added]
    return Row(run["id"], tuple(cells))


def short_name(name: str) -> str:
    """A column's heading: what it is of is said by the rest of the table."""
    return name.removeprefix("cfg.").removeprefix("metric.").rsplit(".", 1)[-1]


def scalar_text(value: Scalar) -> str:
    """A value of a spec or a metric; "-" where a run has none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return re.sub(r"e([+-])0?", lambda sign: f"e{sign.group(1).strip('+')}", f"{value:.6g}")
    return str(value)


def moment_text(t: float | None, now: float) -> str:
    """The time of today, the date of what is older; empty where it did not happen."""
    if t is None:
        return ""
    there, here = time.localtime(t), time.localtime(now)
    if there[:3] == here[:3]:
        return time.strftime("%H:%M:%S", there)
    return time.strftime("%m-%d %H:%M" if abs(now - t) < 300 * _DAY_SECONDS else "%Y-%m-%d", there)


def cost_text(cost: float | None, currency: str) -> str:
    """Money to three digits; "-" where no tariff is set."""
    if cost is None:
        return "-"
    return f"{cost:.2f} {currency}" if cost < 1000 else f"{cost:.0f} {currency}"


def energy_text(joules: float | None) -> str:
    """Watt hours; "-" where no GPU counted."""
    if joules is None:
        return "-"
    hours = joules / 3600
    return f"{hours:.3g} Wh" if hours < 1000 else f"{hours / 1000:.3g} kWh"


def as_of(run: RunSummary, then: RunSummary | None, moment: float) -> RunSummary:
    """A run as it was at a past moment: by the picture of that moment, else by what is known of its times."""
    if then is not None:
        return then
    fresh = run.copy()
    if run["submitted_at"] > moment:
        fresh.update(
            {"state": "queued", "reason": "not yet submitted then", "started_at": None, "ended_at": None, "progress": None, "latest": {}}
        )
    return fresh


def preview_lines(run: RunSummary, detail: RunDetail | None, now: float, width: int) -> list[list[Run]]:
    """What to know of a run before it is opened: state, note, tags, what it cost, and its settings."""
    lines: list[list[Run]] = [[(" ", "text"), state_run(run["state"]), (f"  {run['reason']}" if run["reason"] else "", "muted")]]
    if run["note"]:
        lines += [[(f" {text}", "bright")] for text in wrap(run["note"], max(8, width - 2))]
    told = [("baseline", "accent")] if run["baseline"] else []
    told += [(tag, "text") for tag in run["tags"]]
    if told:
        lines.append([(" tags ", "muted"), *((f"{word} ", role) for word, role in told)])
    times = [f"{run['owner']}, {moment_text(run['submitted_at'], now)}", f"took {duration_text(elapsed_seconds(run, now))}"]
    if run["attempt"] > 1:
        times.append(f"attempt {run['attempt']}")
    lines.append([(f" {' · '.join(times)}", "muted")])
    if detail is not None:
        kept = detail["checkpoints"]
        if kept:
            lines.append([(f" {len(kept)} checkpoint{'s' if len(kept) > 1 else ''}, the last at step {kept[-1]['step']}", "good")])
        hidden = ("kind", "name", "tags")
        for name, value in flatten(detail["spec"]).items():
            if value not in (None, "") and name not in hidden:
                lines.append([(f" {fit_middle(name, 26)} ", "muted"), (scalar_text(value), "text")])
    return lines


def _tags(run: RunSummary) -> Run:
    words = [*(["baseline"] if run["baseline"] else []), *run["tags"], *([f"“{run['note']}”"] if run["note"] else [])]
    return " ".join(words), "accent" if run["baseline"] else "muted"
