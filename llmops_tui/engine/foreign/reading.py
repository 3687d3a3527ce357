"""What a reader of somebody's log found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """Numbers of one step. `at` tells this place of the log from every other; everything before it was read when it was."""

    step: int
    values: dict[str, float]
    at: int | str
    t: float | None = None


@dataclass
class Stretch:
    """Some of a log. `end` is where to go on; `problem` says what cannot be read from there on, in words.

    `done` and `total` are how far the program is by this log, where it tells that.
    """

    readings: list[Reading] = field(default_factory=list)
    end: int = 0
    more: bool = False
    problem: str = ""
    done: int | None = None
    total: int | None = None
