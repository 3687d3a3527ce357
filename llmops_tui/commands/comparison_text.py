"""A comparison of runs as words: one list of sections, written as a table, markdown or CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmops_tui.commands.output import value_text
from llmops_tui.specs.metric_sense import best_of

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Comparison, DifferenceRow, RunSummary, Scalar

_LONGEST_CELL = 60


class Fact(NamedTuple):
    """A key and a value for each run."""

    key: str
    values: list[Scalar]
    differs: bool


class Section(NamedTuple):
    """`same` counts the rows that were left out because all runs agree."""

    title: str
    rows: list[Fact]
    same: int = 0


def sections(comparison: Comparison, everything: bool) -> list[Section]:
    """What the runs are, came to, and differ in; with `everything` also where they agree, and each metric's least and greatest value."""
    found = [Section("runs", _about(comparison["runs"]))]
    metrics: list[Fact] = []
    for metric in comparison["metrics"]:
        metrics.append(_fact(metric["metric"], metric["last"]))
        if everything:
            metrics += [_fact(f"{metric['metric']} min", metric["minimum"]), _fact(f"{metric['metric']} max", metric["maximum"])]
    found.append(Section("metrics", metrics))
    for title, facts in (("config", comparison["config"]), ("data", comparison["data"]), ("environment", comparison["environment"])):
        found.append(_differences(title, facts, everything))
    return found


def table_lines(comparison: Comparison, everything: bool) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and rows of cells for each section that says anything; long values are cut in the middle."""
    for title, rows, same in sections(comparison, everything):
        if rows or same:
            agree = f" ({same} more are the same)" if rows and same else " (no difference)" if same else ""
            yield title + agree, [[key, *(_cut(value_text(value)) for value in values)] for key, values, _ in rows]


def markdown(comparison: Comparison, everything: bool) -> str:
    """Ready for a pull request: a heading and a table a section; the best value of a metric in bold."""
    ids = [run["id"] for run in comparison["runs"]]
    parts = [f"## {' and '.join(ids) if len(ids) == 2 else f'{len(ids)} runs compared'}\n"]
    for title, rows, same in sections(comparison, everything):
        if not rows and not same:
            continue
        lines = [f"### {title.capitalize()}\n"]
        if rows:
            lines += [pipes(["", *ids]), pipes(["---", *["---:"] * len(ids)])]
            lines += [pipes([f"`{key}`" if title != "runs" else key, *_markdown_values(title, key, values)]) for key, values, _ in rows]
        if same:
            lines.append(f"{'' if not rows else chr(10)}{'No difference' if not rows else f'{same} more are the same'}.")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _markdown_values(title: str, key: str, values: Sequence[Scalar]) -> list[str]:
    texts = [value_text(value) for value in values]
    numbers = [value if isinstance(value, int | float) else None for value in values]
    if title == "metrics" and (best := best_of(key, numbers)) is not None:
        texts[best] = f"**{texts[best]}**"
    return texts


def csv_text(comparison: Comparison) -> str:
    """Everything, one row a key: section, key, whether the runs differ in it, and a column a run. Numbers as they are."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["section", "key", "differs", *(run["id"] for run in comparison["runs"])])
    for title, rows, _ in sections(comparison, True):
        for key, values, differs in rows:
            cells = ["" if value is None else value_text(value) if isinstance(value, bool) else value for value in values]
            table.writerow([title, key, value_text(differs), *cells])
    return file.getvalue()


def _fact(key: str, values: Sequence[Scalar]) -> Fact:
    return Fact(key, list(values), any(value != values[0] for value in values))


def _about(runs: Sequence[RunSummary]) -> list[Fact]:
    took = [None if run["started_at"] is None or run["ended_at"] is None else round(run["ended_at"] - run["started_at"]) for run in runs]
    rows = [
        _fact("state", [run["state"] for run in runs]),
        _fact("seconds", took),
        _fact("tags", [", ".join(run["tags"]) or None for run in runs]),
        _fact("note", [run["note"] or None for run in runs]),
        _fact("baseline", [True if run["baseline"] else None for run in runs]),
    ]
    return [row for row in rows if any(value is not None for value in row.values)]


def _differences(title: str, facts: Sequence[DifferenceRow], everything: bool) -> Section:
    shown = [Fact(fact["key"], fact["values"], fact["differs"]) for fact in facts if everything or fact["differs"]]
    return Section(title, shown, len(facts) - len(shown))


def _cut(text: str) -> str:
    """A path's or a hash's beginning and end tell it apart."""
    half = _LONGEST_CELL // 2
    return text if len(text) <= _LONGEST_CELL else f"{text[: half - 1]}…{text[-half:]}"


def pipes(cells: Sequence[str]) -> str:
    """A row of a table in markdown."""
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(cell: str) -> str:
    """Nothing in a value ends the cell or becomes a tag of HTML."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
