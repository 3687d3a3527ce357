"""What the API shows of many runs, without describing those it does not show: a box may have thousands."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.queue_rules import queue_key
from llmops_tui.specs.answers import RunPage, RunSummary
from llmops_tui.specs.states import ACTIVE, ENDED, WAITING


class Overview(NamedTuple):
    """`waiting` is in the queue's order, `recent` holds the runs that ended last, newest first."""

    running: list[RunSummary]
    waiting: list[RunSummary]
    recent: list[RunSummary]
    counts: dict[str, int]


def overview(runs: Collection[LiveRun], recent: int) -> Overview:
    """Everything that goes on, and the `recent` runs that ended last."""
    ended = heapq.nlargest(recent, (run for run in runs if run.state in ENDED), key=lambda run: (run.ended_at or 0.0, run.submitted_at))
    return Overview(
        running=[run.summary(None) for run in runs if run.state in ACTIVE],
        waiting=[run.summary(number) for number, run in enumerate(_queue(runs), 1)],
        recent=[run.summary(None) for run in ended],
        counts=dict(Counter(run.state for run in runs)),
    )


def page(runs: Collection[LiveRun], states: Collection[str], kinds: Collection[str], limit: int, offset: int) -> RunPage:
    """One page of the runs in these states and of these kinds (empty: any), newest first."""
    places = {run.id: number for number, run in enumerate(_queue(runs), 1)}
    found = [run for run in runs if (not states or run.state in states) and (not kinds or run.spec_values.get("kind") in kinds)]
    found.sort(key=lambda run: (run.submitted_at, run.id), reverse=True)
    return RunPage(runs=[run.summary(places.get(run.id)) for run in found[offset : offset + limit]], total=len(found), columns={})


def _queue(runs: Collection[LiveRun]) -> list[LiveRun]:
    return sorted((run for run in runs if run.state in WAITING), key=queue_key)
