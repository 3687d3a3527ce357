"""The shapes of what the watchers tell: alarms, the rows behind one, and how a run's rules stand now.

Times are Unix seconds. `None` of a value that was NaN or infinite, of a threshold where there is none.
"""

from __future__ import annotations

from typing_extensions import TypedDict


class Alarm(TypedDict):
    """A rule fired. `id` is made of run, attempt, rule and step: the same firing never counts twice.

    `since` is the step at which the fault began as far as that is known, `t` the moment of the record that fired, `words` says it
    in one line, `wrong` how often this rule is wrong, `acted` what the engine did about it (empty: nothing but to tell),
    `acked_by` who has seen it (empty: nobody yet).
    """

    id: str
    run: str
    attempt: int
    rule: str
    step: int
    since: int
    t: float
    value: float | None
    threshold: float | None
    words: str
    action: str
    wrong: str
    acted: str
    acked_by: str
    acked_at: float | None


class AlarmRow(TypedDict):
    """One row of the batch behind an alarm: its number in the data file from 1, and how its text begins."""

    number: int
    text: str


class AlarmRows(TypedDict):
    """The rows of the step that fired; `problem` says why there are none or why their text is missing."""

    id: str
    step: int
    file: str
    rows: list[AlarmRow]
    problem: str


class RuleState(TypedDict):
    """A rule as it stands: `state` is learning, quiet, raised or off; `alarms` how many it has raised in this run."""

    rule: str
    title: str
    sees: str
    wrong: str
    action: str
    state: str
    value: float | None
    threshold: float | None
    alarms: int


class WatchState(TypedDict):
    """All rules of a run and its alarms, the oldest first. No rules: this kind of run is not watched."""

    run: str
    rules: list[RuleState]
    alarms: list[Alarm]
