"""Which running runs make room for one of higher priority. Pure.

Both sides have to want it: the one that comes says `preempt`, those that go say `preemptible`. They save a checkpoint, free what
they hold and wait in the queue again. Only a strictly higher priority preempts, so the one that went never comes back for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from llmops_tui.engine.ledger import Placement, place
from llmops_tui.engine.live_run import SAVING, LiveRun
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.control import SAVES
from llmops_tui.specs.states import ACTIVE


def victims(
    run: LiveRun, spec: RunSpec, runs: Collection[LiveRun], gpus: Sequence[GpuSample], cpu_slots: int, closed: Mapping[str, str]
) -> list[LiveRun]:
    """The running runs to pause so that `run` fits: as few as possible, the lowest priority and the latest start first.

    Empty where it does not want to preempt, where nothing would help, and where enough of them are on their way out already.
    `closed` are the GPUs it may not have at all.
    """
    if not spec.preempt:
        return []
    active = [other for other in runs if other.state in ACTIVE]

    def fits_without(gone: Collection[LiveRun]) -> bool:
        left = [holding for other in active if other not in gone and (holding := other.holding()) is not None]
        return isinstance(place(spec.resources, as_left_by(gpus, gone), left, cpu_slots, dict(closed)), Placement)

    going = [other for other in active if other.state == "stopping" and (other.stop in SAVING or other.stop == "now")]
    if fits_without(going):
        return []
    candidates = sorted(
        (other for other in active if other.state == "running" and not other.stop and _gives_way(other, run)),
        key=lambda other: (other.priority, -(other.started_at or 0.0)),
    )
    chosen: list[LiveRun] = []
    for candidate in candidates:
        chosen.append(candidate)
        if fits_without([*going, *chosen]):
            break
    else:
        return []
    for candidate in chosen[:-1]:  # one that was tried before the one that helped may not be needed
        others = [other for other in chosen if other is not candidate]
        if fits_without([*going, *others]):
            chosen = others
    return chosen


def _gives_way(other: LiveRun, run: LiveRun) -> bool:
    return other.spec is not None and other.spec.preemptible and other.kind in SAVES and other.priority < run.priority


def as_left_by(gpus: Sequence[GpuSample], gone: Collection[LiveRun]) -> list[GpuSample]:
    """The GPUs as they will be: without the processes of those that go, and the memory these use."""
    names = {run.id for run in gone}
    left: list[GpuSample] = []
    for gpu in gpus:
        used = gpu["memory_used_bytes"]
        theirs = sum(process["memory_bytes"] or 0 for process in gpu["processes"] if process["run"] in names)
        if theirs == 0:  # in a container the driver lists no processes: what is used is of the one that has it alone, or as predicted
            theirs = sum(run.memory_bytes or used or 0 for run in gone if gpu["uuid"] in run.gpu_uuids)
        processes = [process for process in gpu["processes"] if process["run"] not in names]
        left.append({**gpu, "processes": processes, "memory_used_bytes": None if used is None else max(0, used - theirs)})
    return left
