"""A sweep as the rows and curves of its page. Pure."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

from llmops_tui.commands.output import number, value_text
from llmops_tui.commands.sweeps import facts_of
from llmops_tui.screens.widgets.curve import NUMBER, Curve
from llmops_tui.screens.widgets.table import Column, Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Scalar
    from llmops_tui.specs.answers_sweep import SweepAnswer, SweepTrial

BEST = "best so far"
_BAR_CELLS = 10
_ROLES = {"complete": "good", "running": "accent", "waiting": "muted", "pruned": "muted", "failed": "bad", "cancelled": "muted"}


def trial_columns(sweep: SweepAnswer, width: int) -> list[Column]:
    """Number, state and value stay; of the settings as many as there is room for, those that matter most first."""
    keys = settings_of(sweep)
    columns = [Column("#", 4, right=True), Column("state", 9), Column(_last(sweep["metric"]), 9, right=True)]
    columns += [Column(_last(key), min(16, max(9, len(_last(key)))), right=True, rank=1 + place) for place, key in enumerate(keys)]
    columns.append(Column("tokens", 10, right=True, rank=len(keys) + 2))
    if sum(column.width + 1 for column in columns) + 24 < width:
        columns.append(Column("why", 0, rank=len(keys) + 3))
    return columns


def trial_rows(sweep: SweepAnswer) -> list[Row]:
    """Best first. The key is the trial's run; of one that was never queued its number."""
    keys = settings_of(sweep)
    best = next((trial["number"] for trial in sweep["trials"] if trial["state"] == "complete" and trial["value"] is not None), None)
    rows = []
    for trial in sweep["trials"]:
        role = _ROLES.get(trial["state"], "text")
        wins = trial["number"] == best and sweep["kind"] == "sweep"
        cells = [(str(trial["number"]), "text"), (trial["state"], role), (number(trial["value"]) + ("*" if wins else " "), "bright")]
        cells += [(value_text(trial["params"].get(key)), "text") for key in keys]
        cells += [(f"{trial['tokens']:,}", "muted"), (trial["reason"], "muted")]
        rows.append(Row(trial["run"] or f"#{trial['number']}", tuple(cells)))
    return rows


def settings_of(sweep: SweepAnswer) -> list[str]:
    """The settings that were varied, the most important first; of folds which one was held out."""
    if sweep["kind"] == "crossval":
        return ["dataset.fold"]
    told = [key for key in sweep["importances"] if key in sweep["space"]]
    return [*told, *(key for key in sweep["space"] if key not in told)]


def matter_rows(sweep: SweepAnswer) -> list[Row]:
    """What each setting decides, with the best value it had; then what is used of the budget, and the folds' mean."""
    rows = []
    if sweep["space"]:
        winner = next((trial for trial in sweep["trials"] if trial["state"] == "complete" and trial["value"] is not None), None)
        rows.append(Row("!matter", (("which settings matter, and the best one's value", "title"),), title=True))
        for key in settings_of(sweep):
            share = sweep["importances"].get(key)
            bar = "not told yet" if share is None else f"{'#' * round(share * _BAR_CELLS):<{_BAR_CELLS}} {share:4.0%}"
            value = value_text(winner["params"].get(key)) if winner else "-"
            rows.append(Row(f"cfg.{key}", ((key, "text"), (f"{bar}  {value}", "bright"))))
    rows.append(Row("!facts", (("the sweep" if sweep["kind"] == "sweep" else "the folds", "title"),), title=True))
    for name, words in facts_of(sweep):
        if words and name not in ("importance", "run"):
            rows.append(Row(f"fact.{name}", ((name, "muted"), (words, "text"))))
    return rows


def charts_of(sweep: SweepAnswer) -> list[str]:
    """What the chart can show: the best so far, then the metric over each setting (a slice)."""
    return [BEST, *settings_of(sweep)] if sweep["kind"] == "sweep" else settings_of(sweep)


def curves_of(sweep: SweepAnswer, shown: str) -> list[Curve]:
    """The best value by trials ended; of a setting one dot a trial, complete and pruned ones apart."""
    if shown == BEST:
        points = sweep["best_so_far"]
        return [Curve.from_points(sweep["metric"], [x for x, _ in points], [y for _, y in points], NUMBER)] if points else []
    curves = []
    for state in ("complete", "pruned"):
        dots = sorted(
            (place, trial["value"])
            for trial in sweep["trials"]
            if trial["state"] == state and trial["value"] is not None and (place := place_of(sweep, shown, trial)) is not None
        )
        if dots:
            curves.append(_dots(state, dots))
    return curves


def place_of(sweep: SweepAnswer, key: str, trial: SweepTrial) -> float | None:
    """Where a trial stands on a setting's axis: its value, the logarithm of one that is searched so, the place of a word."""
    space, value = sweep["space"].get(key), trial["params"].get(key)
    if space is not None and space["choices"] and any(_no_number(choice) for choice in space["choices"]):
        return float(space["choices"].index(value)) + 1 if value in space["choices"] else None
    if value is None or _no_number(value):
        return None
    own = float(value)
    return log10(own) if is_log(sweep, key) and own > 0 else own


def is_log(sweep: SweepAnswer, key: str) -> bool:
    """Whether a setting's axis is logarithmic: it is searched so, or its choices span a factor of a hundred."""
    space = sweep["space"].get(key)
    if space is None:
        return False
    values = [float(choice) for choice in space["choices"] if isinstance(choice, int | float) and not isinstance(choice, bool)]
    return space["log"] or (len(values) > 1 and min(values) > 0 and max(values) / min(values) >= 100)


def chart_title(sweep: SweepAnswer, shown: str) -> str:
    """What is on which axis."""
    if shown == BEST:
        return f"{sweep['metric']}: best so far by trials ended"
    space = sweep["space"].get(shown)
    words = space is not None and any(_no_number(choice) for choice in space["choices"])
    if words and space is not None:
        axis = ", ".join(f"{place} {value_text(choice)}" for place, choice in enumerate(space["choices"], 1))
    else:
        axis = "log10" if is_log(sweep, shown) else ""
    return f"{sweep['metric']} over {shown}{f' ({axis})' if axis else ''}"


def _dots(name: str, dots: list[tuple[float, float]]) -> Curve:
    """Each point is a piece of its own: trials are no line."""
    x, values = [place for place, _ in dots], [value for _, value in dots]
    pieces = tuple((place, place + 1) for place in range(len(dots)))
    return Curve(name, x, values, values, values, pieces, values[-1], axis=NUMBER)


def _no_number(value: Scalar) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float)


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1].rsplit("/", 1)[-1] if "." in key else key
