"""Who makes room for whom: only who allows it, only for a higher priority that wants it, as few as possible, and never for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.preemption import victims
from llmops_tui.specs.parse import parse_spec
from tests.engine.test_ledger import GIB, a_gpu, a_process


def running(number: int, priority: int = 0, *, preemptible: bool = True, **changes: Any) -> LiveRun:
    spec = parse_spec({"kind": "train", "model": "m", "dataset": {"path": "d"}, "preemptible": preemptible, "priority": priority})
    record = {"spec": spec.model_dump(mode="json")}
    values = {"state": "running", "cpu_slots": 1, "started_at": float(number), "priority": priority, **changes}
    return LiveRun(RunDir(Path(f"/runs/train-r-{number:04}")), record, spec, **values)


def coming(priority: int = 5, **values: Any) -> tuple[LiveRun, Any]:
    spec = parse_spec({"kind": "command", "argv": ["x"], "priority": priority, **{"preempt": True, **values}})
    return LiveRun(RunDir(Path("/runs/command-c-0099")), {"spec": spec.model_dump(mode="json")}, spec, priority=priority), spec


def chosen(runs: list[LiveRun], gpus: list[Any] | None = None, slots: int = 2, **values: Any) -> list[str]:
    run, spec = coming(**values)
    return [other.id for other in victims(run, spec, [*runs, run], gpus or [], slots, {})]


def test_the_lowest_priority_and_of_equal_ones_the_latest_goes() -> None:
    assert chosen([running(1, 1), running(2, 0)]) == ["train-r-0002"]
    assert chosen([running(1), running(2)]) == ["train-r-0002"]
    assert chosen([running(1), running(2)], resources={"cpu_slots": 2}) == ["train-r-0002", "train-r-0001"]
    assert chosen([running(1, 0), running(2, 1, cpu_slots=2)], slots=3, resources={"cpu_slots": 2}) == ["train-r-0002"], (
        "no more than needed"
    )


def test_nobody_goes_for_an_equal_priority_or_for_one_that_did_not_ask_or_without_allowing_it() -> None:
    assert chosen([running(1, 5)], slots=1) == []
    assert chosen([running(1)], slots=1, preempt=False) == []
    assert chosen([running(1, preemptible=False)], slots=1) == []
    assert chosen([running(1), running(2, preemptible=False, cpu_slots=2)], slots=3, resources={"cpu_slots": 3}) == [], "it would not help"


def test_who_goes_already_is_waited_for_before_another_is_asked() -> None:
    going = running(1, state="stopping", stop="preempt")
    assert chosen([going, running(2)]) == []
    assert chosen([going, running(2)], resources={"cpu_slots": 2}) == ["train-r-0002"]


def test_a_gpu_is_counted_as_it_will_be_left_and_a_strangers_memory_stays() -> None:
    holder = running(1, cpu_slots=0, gpu_uuids=["GPU-0"])
    ours, theirs = a_process(8 * GIB, "train-r-0001"), a_process(8 * GIB, None, 12)
    whole = {"resources": {"gpus": 1}}
    assert chosen([holder], [a_gpu(memory_used_bytes=8 * GIB, processes=[ours])], **whole) == [holder.id]
    assert chosen([holder], [a_gpu(memory_used_bytes=8 * GIB)], **whole) == [holder.id], "no process is listed in a container"
    assert chosen([holder], [a_gpu(memory_used_bytes=16 * GIB, processes=[ours, theirs])], **whole) == []
    shared = [running(n, cpu_slots=0, gpu_uuids=["GPU-0"], memory_bytes=10 * GIB) for n in (1, 2)]
    want = {"resources": {"gpus": 1, "gpu_memory_bytes": 8 * GIB}}
    assert chosen(shared, [a_gpu(memory_used_bytes=20 * GIB)], **want) == ["train-r-0002"]
