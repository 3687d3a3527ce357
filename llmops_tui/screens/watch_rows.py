"""What watches a run, as rows of its page and lines of its chart; pure functions."""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING

from llmops_tui.screens.widgets.axes import value_text
from llmops_tui.screens.widgets.marks import Mark
from llmops_tui.screens.widgets.table import Column, Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers_watch import Alarm, AlarmRows, RuleState, WatchState

WATCH_COLUMNS = (
    Column("", 1),
    Column("rule", 18),
    Column("step", 6, right=True),
    Column("state", 8),
    Column("value", 8, right=True),
    Column("limit", 8, right=True),
    Column("does", 5),
    Column("false alarms", 0, rank=1, least=8),
)
# The cursor's mark, and the columns before an alarm's words.
_BEFORE_WORDS = 1 + sum(column.width + 1 for column in WATCH_COLUMNS[:3])
_LEAST_WORDS = 20
_STATE_ROLES = {"learning": "muted", "quiet": "good", "raised": "bad", "off": "muted"}


def watch_rows(
    state: WatchState | None, moment: float | None = None, unfolded: AlarmRows | None = None, width: int | None = None
) -> list[Row]:
    """The alarms, the newest first, `!` where nobody has seen it; then every rule as it stands. With `moment` the alarms until then.

    `unfolded` are the rows of the data file behind one of the alarms: they stand under it. Words that are longer than `width` leaves
    room for go on in the lines below.
    """
    if state is None or not (state["rules"] or state["alarms"]):
        return []
    titles = {rule["rule"]: rule["title"] for rule in state["rules"]}
    alarms: list[Row] = []
    for alarm in reversed(state["alarms"]):
        if moment is None or alarm["t"] <= moment:
            alarms += _alarm_rows(alarm, titles, None if width is None else max(_LEAST_WORDS, width - _BEFORE_WORDS - 2))
            alarms += _data_rows(unfolded) if unfolded is not None and unfolded["id"] == alarm["id"] else []
    rules = [_rule_row(rule) for rule in state["rules"]]
    return [*([_title("alarms"), *alarms] if alarms else []), *([_title("rules"), *rules] if rules else [])]


def alarm_marks(state: WatchState | None, moment: float | None = None) -> list[Mark]:
    """The alarms as lines of the chart."""
    alarms = state["alarms"] if state is not None else []
    return [
        Mark("note" if alarm["action"] == "note" else "alarm", float(alarm["step"]), alarm["t"], alarm["words"])
        for alarm in alarms
        if moment is None or alarm["t"] <= moment
    ]


def alarm_of(state: WatchState | None, key: str) -> Alarm | None:
    """The alarm a row stands for: itself, the one whose rows it belongs to, or the newest of a rule's."""
    key = key.partition(" row ")[0]
    alarms = state["alarms"] if state is not None else []
    return next((alarm for alarm in reversed(alarms) if key in (alarm["id"], f"rule {alarm['rule']}")), None)


def open_alarms(state: WatchState | None) -> list[str]:
    """The ids of those that nobody has seen."""
    return [alarm["id"] for alarm in state["alarms"] if not alarm["acked_by"]] if state is not None else []


def told_of(state: WatchState | None, key: str | None) -> str:
    """One line more about a row: what the rule sees and how often it is wrong, or who has seen the alarm."""
    for rule in state["rules"] if state is not None else []:
        if key == f"rule {rule['rule']}":
            return f"{rule['sees']}; false alarms: {rule['wrong']}"
    alarm = alarm_of(state, key) if key is not None and not key.startswith("rule ") else None
    if alarm is None:
        return ""
    seen = f"seen by {alarm['acked_by']}" if alarm["acked_by"] else "seen by nobody yet"
    return f"{time.strftime('%m-%d %H:%M:%S', time.localtime(alarm['t']))}, {alarm['acted'] or 'told'}, {seen}"


def _title(text: str) -> Row:
    return Row(f"title {text}", ((text, "title"),), title=True)


def _alarm_rows(alarm: Alarm, titles: dict[str, str], room: int | None) -> list[Row]:
    fresh = not alarm["acked_by"]
    empty, role = ("", "text"), "bright" if fresh else "text"
    first, *more = (textwrap.wrap(alarm["words"], room) if room else None) or [alarm["words"]]
    cells = (
        ("!" if fresh else "", "bad"),
        (titles.get(alarm["rule"], alarm["rule"]), "bad" if fresh else "text"),
        (str(alarm["step"]), "muted"),
        (first, role),
    )
    rest = [
        Row(f"{alarm['id']} row words {at}", (empty, empty, empty, (words, role), empty, empty, empty, empty), wide=3)
        for at, words in enumerate(more)
    ]
    return [Row(alarm["id"], (*cells, empty, empty, empty, empty), wide=3), *rest]


def _data_rows(unfolded: AlarmRows) -> list[Row]:
    """A line for each row of the batch; why there is none stands in the answer's `problem`, which the title tells."""
    empty = ("", "text")
    found = []
    for row in unfolded["rows"]:
        cells = (empty, ("row of the batch", "muted"), (str(row["number"]), "accent"), (row["text"], "text"))
        found.append(Row(f"{unfolded['id']} row {row['number']}", (*cells, empty, empty, empty, empty), wide=3))
    return found


def _rule_row(rule: RuleState) -> Row:
    cells = (
        ("", "text"),
        (rule["title"], "text"),
        (f"{rule['alarms']} x" if rule["alarms"] else "", "warn"),
        (rule["state"], _STATE_ROLES.get(rule["state"], "text")),
        (value_text(rule["value"]), "text"),
        (value_text(rule["threshold"]), "muted"),
        (rule["action"], "accent" if rule["action"] in ("pause", "stop") else "muted"),
        (rule["wrong"], "muted"),
    )
    return Row(f"rule {rule['rule']}", cells)
