"""Groups of runs in words: a table, markdown or CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from llmops_tui.commands.comparison_text import pipes
from llmops_tui.commands.output import value_text
from llmops_tui.specs.run_groups import Grouped, Mean, best_group


def heads(grouped: Grouped) -> list[str]:
    """A column's name: the value, and of how many runs."""
    return [f"{value_text(one.value)} (n={len(one.runs)})" for one in grouped.groups]


def mean_text(mean: Mean | None) -> str:
    """`1.23 ± 0.04`; a lone run's value without an interval."""
    if mean is None:
        return "-"
    return value_text(mean.mean) if mean.half is None else f"{value_text(mean.mean)} ± {value_text(float(f'{mean.half:.2g}'))}"


def rows(grouped: Grouped) -> Iterator[tuple[str, list[str], int | None]]:
    """Each metric with a cell a group, and which group is the best one beyond chance, where one is."""
    for metric, means in grouped.means.items():
        yield metric, [mean_text(mean) for mean in means], best_group(metric, means)


def footnote(grouped: Grouped) -> str:
    """What the intervals are, and what makes them doubtful."""
    told = "mean of the last values ± half of its 95 % interval (Student's t over the runs)"
    return told + (f"; within a group also differ: {', '.join(grouped.loose)}" if grouped.loose else "")


def grouped_markdown(grouped: Grouped) -> str:
    """Ready for a pull request; in bold what is better beyond chance."""
    names = heads(grouped)
    lines = [f"### By `{grouped.key}`\n", pipes(["", *names]), pipes(["---", *["---:"] * len(names)])]
    for metric, cells, best in rows(grouped):
        lines.append(pipes([f"`{metric}`", *(f"**{cell}**" if place == best else cell for place, cell in enumerate(cells))]))
    return "\n".join([*lines, "", f"{footnote(grouped)}.", ""])


def grouped_csv(grouped: Grouped) -> str:
    """A line a metric and group: metric, value of the key, runs, mean, half of the interval."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["metric", grouped.key, "runs", "mean", "half_interval_95"])
    for metric, means in grouped.means.items():
        for one, mean in zip(grouped.groups, means, strict=True):
            if mean is not None:
                table.writerow([metric, value_text(one.value), mean.runs, repr(mean.mean), "" if mean.half is None else repr(mean.half)])
    return file.getvalue()
