"""Train and serve on one card: which endpoints unload so that a waiting run gets its GPU memory. Pure.

Only what is asked for by the endpoint's spec (`yields`): never, only while idle, or always. A pinned one never does. As few as
possible go, the one that was not used for longest first; and none where it would not help.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.idling import busy, last_used
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.ledger import Placement, place
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.preemption import as_left_by
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.states import ACTIVE, QUEUED

# An endpoint that was asked something so lately is not idle.
IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Candidate:
    """An endpoint with its servers that hold GPUs."""

    entry: Entry
    holders: Sequence[LiveRun]
    used: float


def who_yields(
    waiting: LiveRun,
    entries: Collection[Entry],
    servers: Mapping[str, Sequence[Server]],
    told: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, LiveRun],
    gpus: Sequence[GpuSample],
    cpu_slots: int,
    now: float,
) -> list[str]:
    """The endpoints to unload so that `waiting` fits; empty where it fits anyway or nothing would help. `told` by endpoint."""
    if waiting.state not in QUEUED or waiting.spec is None or waiting.kind == "serve" or not gpus:
        return []
    active = [run for run in runs.values() if run.state in ACTIVE]
    resources = waiting.resources(waiting.spec)

    def fits_without(gone: Collection[LiveRun]) -> bool:
        left = [holding for run in active if run not in gone and (holding := run.holding()) is not None]
        return isinstance(place(resources, as_left_by(gpus, gone), left, cpu_slots), Placement)

    # Those on their way out free their memory by themselves: nobody else is asked meanwhile.
    going = [run for run in active if run.state == "stopping"]
    if resources.gpus == 0 or fits_without(going):
        return []
    candidates = sorted(
        (found for entry in entries if (found := _candidate(entry, servers, told, runs, now)) is not None), key=lambda each: each.used
    )
    chosen: list[Candidate] = []
    for candidate in candidates:
        chosen.append(candidate)
        if fits_without([*going, *(run for each in chosen for run in each.holders)]):
            break
    else:
        return []
    for candidate in chosen[:-1]:
        fewer = [each for each in chosen if each is not candidate]
        if fits_without([*going, *(run for each in fewer for run in each.holders)]):
            chosen = fewer
    return [each.entry.name for each in chosen]


def _candidate(
    entry: Entry,
    servers: Mapping[str, Sequence[Server]],
    told: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, LiveRun],
    now: float,
) -> Candidate | None:
    spec = entry.spec
    if entry.asleep is not None or entry.pending is not None or spec.pinned or spec.yields == "never":
        return None
    holders = [
        run for server in servers.get(entry.name, ()) if (run := runs.get(server.run)) is not None and run.gpu_uuids and run.state in ACTIVE
    ]
    mine = told.get(entry.name, {})
    used = max(last_used(mine), entry.created_at)
    if not holders or (spec.yields == "idle" and (busy(mine) or now - used < IDLE_SECONDS)):
        return None
    return Candidate(entry, holders, used)
