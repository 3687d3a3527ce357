"""A comparison of runs as rows of a table; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_tui.commands.grouped_text import rows as grouped_cells
from llmops_tui.screens.run_cells import scalar_text
from llmops_tui.screens.widgets.axes import duration_text, value_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.panels import elapsed_seconds
from llmops_tui.screens.widgets.table import Column, Row
from llmops_tui.specs.metric_sense import best_of, least_wins

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Comparison, DifferenceRow, RunSummary
    from llmops_tui.specs.run_groups import Grouped

_KEY_CELLS, _LEAST_CELLS, _MOST_CELLS = 16, 6, 26


def short_ids(ids: Sequence[str]) -> list[str]:
    """The shortest endings that still tell the runs apart: their numbers."""
    numbers = [run_id.rsplit("-", 1)[-1] for run_id in ids]
    return numbers if len(set(numbers)) == len(ids) else list(ids)


def compare_columns(ids: Sequence[str], width: int, first: str, rows: Sequence[Row]) -> list[Column]:
    """A column a run, in the colours' order, as wide as what stands in it; all of them stay however narrow the table."""
    return value_columns(short_ids(ids), width, first, rows)


def value_columns(names: Sequence[str], width: int, first: str, rows: Sequence[Row]) -> list[Column]:
    """A column a name, after the first one."""
    told = [row.cells for row in rows if not row.title]
    wanted = [max([len(name), *(len(cells[at][0]) for cells in told)]) for at, name in enumerate(names, 1)]
    each = [min(_MOST_CELLS, max(_LEAST_CELLS, cells)) for cells in wanted]
    room = width - 1 - _KEY_CELLS - 1
    while sum(cells + 1 for cells in each) > room and max(each) > _LEAST_CELLS:
        each[each.index(max(each))] -= 1
    longest = max([len(first), *(len(cells[0][0]) for cells in told)])
    key = max(10, min(longest, width - 1 - sum(cells + 1 for cells in each) - 1))
    return [
        Column(first, key, middle=True),
        *(Column(name, cells, right=True, middle=True) for name, cells in zip(names, each, strict=True)),
    ]


def difference_rows(comparison: Comparison, every: bool) -> list[Row]:
    """The config, the data and the environment, each under its heading; only what differs unless `every`."""
    rows: list[Row] = []
    for title, facts in (("config", comparison["config"]), ("data", comparison["data"]), ("environment", comparison["environment"])):
        shown = [fact for fact in facts if every or fact["differs"]]
        same = len(facts) - sum(fact["differs"] for fact in facts)
        told = (
            f"{title}: "
            + (f"{len(facts) - same} differ" if len(facts) > same else "no difference")
            + (f", {same} the same" if same else "")
        )
        rows.append(Row(f"title {title}", ((told if facts else f"{title}: not known", "title"),), title=True))
        rows += [Row(f"{title} {fact['key']}", _fact_cells(fact)) for fact in shown]
    return rows


def _fact_cells(fact: DifferenceRow) -> tuple[Run, ...]:
    first = fact["values"][0] if fact["values"] else None
    cells: list[Run] = [(fact["key"], "text" if fact["differs"] else "muted")]
    for number, value in enumerate(fact["values"]):
        role = "muted" if not fact["differs"] or value is None else "text" if number == 0 or value == first else "warn"
        cells.append((scalar_text(value), role))
    return tuple(cells)


def metric_rows(comparison: Comparison) -> list[Row]:
    """The last value of each metric of each run and the best it had, the best run marked; then what the runs took."""
    rows: list[Row] = []
    for metric in comparison["metrics"]:
        name = metric["metric"]
        rows.append(Row(name, _metric_cells(name, name, metric["last"])))
        lower = least_wins(name)
        if lower is not None:
            best, word = (metric["minimum"], "lowest") if lower else (metric["maximum"], "highest")
            if best != metric["last"]:
                rows.append(Row(f"{name} {word}", _metric_cells(name, f"  {word}", best)))
    return [*rows, *_effort_rows(comparison["runs"])]


def group_rows(grouped: Grouped) -> list[Row]:
    """Each metric's mean and interval in each group; marked where one is better beyond it."""
    found = []
    for metric, cells, best in grouped_cells(grouped):
        told: list[Run] = [(f"*{cell}", "good") if place == best else (cell, "text") for place, cell in enumerate(cells)]
        found.append(Row(metric, ((metric, "text"), *told)))
    return found


def _metric_cells(metric: str, title: str, values: Sequence[float | None]) -> tuple[Run, ...]:
    best = best_of(metric, values)
    cells: list[Run] = [(title, "text" if title == metric else "muted")]
    for number, value in enumerate(values):
        cells.append((f"*{value_text(value)}", "good") if number == best else (value_text(value), "text" if value is not None else "muted"))
    return tuple(cells)


def _effort_rows(runs: Sequence[RunSummary]) -> list[Row]:
    times = [elapsed_seconds(run, run["ended_at"]) if run["ended_at"] else None for run in runs]
    return [
        Row("state", (("state", "muted"), *((run["state"].replace("_", " "), "text") for run in runs))),
        Row("time", (("time", "muted"), *((duration_text(seconds), "text") for seconds in times))),
    ]
