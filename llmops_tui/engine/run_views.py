"""What the API shows of many runs, without describing those it does not show: a box may have thousands."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import queue_key
from llmops_tui.specs.answers import RunSummary
from llmops_tui.specs.states import ACTIVE, ENDED, WAITING


class Overview(NamedTuple):
    """`waiting` is in the queue's order, `recent` holds the runs that ended last, newest first."""

    running: list[RunSummary]
    waiting: list[RunSummary]
    recent: list[RunSummary]
    counts: dict[str, int]


def overview(runs: Collection[LiveRun], recent: int, now: float | None = None) -> Overview:
    """Everything that goes on, and the `recent` runs that ended last. `now` (Unix seconds) is the moment of past runs."""
    ended = heapq.nlargest(recent, (run for run in runs if run.state in ENDED), key=lambda run: (run.ended_at or 0.0, run.submitted_at))
    return Overview(
        running=[run.summary(None, now) for run in runs if run.state in ACTIVE],
        waiting=[run.summary(number, now) for number, run in enumerate(_queue(runs), 1)],
        recent=[run.summary(None, now) for run in ended],
        counts=dict(Counter(run.state for run in runs)),
    )


def _queue(runs: Collection[LiveRun]) -> list[LiveRun]:
    return sorted((run for run in runs if run.state in WAITING), key=queue_key)
