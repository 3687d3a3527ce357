"""Admission: cases that read as documentation, then many random boxes that must never be over-committed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llmops_tui.engine.ledger import FOREIGN_TOLERANCE_BYTES, Holding, Never, Placement, Wait, place
from llmops_tui.specs.answers import GpuProcess, GpuSample
from llmops_tui.specs.common import Resources

GIB = 1 << 30


def a_gpu(index: int = 0, **values: Any) -> GpuSample:
    sample: dict[str, Any] = dict.fromkeys(GpuSample.__annotations__)
    sample |= {"index": index, "uuid": f"GPU-{index}", "name": "Test", "health": "ok", "reason": "", "throttle_reasons": [], "xid": []}
    sample |= {"memory_total_bytes": 24 * GIB, "memory_used_bytes": 0, "processes": [], "held_by": [], **values}
    return sample  # type: ignore[return-value]


def a_process(memory_bytes: int | None, run: str | None = None, pid: int = 4711) -> GpuProcess:
    return {"pid": pid, "memory_bytes": memory_bytes, "run": run, "owner": "alice", "command": "python notebook.py"}


def sharing(memory_bytes: int, gpus: int = 1) -> Resources:
    return Resources(gpus=gpus, gpu_memory_bytes=memory_bytes)


ONE = Resources(gpus=1)


def test_auto_takes_a_gpu_where_there_is_one_and_a_cpu_slot_where_there_is_none() -> None:
    assert place(Resources(), [a_gpu()], [], 2) == Placement(["GPU-0"], 0)
    assert place(Resources(), [], [], 2) == Placement([], 1)


def test_auto_goes_to_the_cpu_when_every_gpu_is_lost_and_waits_for_one_that_is_only_stalled() -> None:
    assert place(Resources(), [a_gpu(health="lost")], [], 2) == Placement([], 1)
    answer = place(Resources(), [a_gpu(health="stalled", reason="no answer for 3 s")], [], 2)
    assert answer == Wait("waits for GPU 0: stalled: no answer for 3 s")


def test_a_run_that_wants_no_gpu_gets_none() -> None:
    assert place(Resources(gpus=0, cpu_slots=2), [a_gpu()], [], 2) == Placement([], 2)


def test_cpu_slots_run_out_and_say_who_holds_them() -> None:
    held = [Holding("train-a-0001", cpu_slots=1), Holding("train-b-0002", ["GPU-0"])]
    assert place(Resources(gpus=0), [], held, 1) == Wait("waits for a CPU slot: held by train-a-0001")
    assert place(Resources(gpus=0), [], held, 2) == Placement([], 1)
    assert isinstance(place(Resources(gpus=0, cpu_slots=3), [], [], 2), Never)


def test_a_gpu_that_is_closed_to_a_run_is_waited_for_with_the_reason_or_passed_over() -> None:
    closed = {"GPU-0": "reserved by bob until 14:00"}
    assert place(ONE, [a_gpu()], [], 1, closed) == Wait("waits for GPU 0: reserved by bob until 14:00")
    assert place(sharing(GIB), [a_gpu(), a_gpu(1)], [], 1, closed) == Placement(["GPU-1"], 0)
    assert place(Resources(gpus=0), [a_gpu()], [], 1, closed) == Placement([], 1)
    assert isinstance(place(Resources(gpus=2), [a_gpu()], [], 1, closed), Never)


def test_more_gpus_than_the_box_has_is_never() -> None:
    assert place(Resources(gpus=3), [a_gpu(0), a_gpu(1)], [], 1) == Never("asks for 3 GPUs; this box has 2")
    assert place(ONE, [], [], 1) == Never("asks for a GPU; this box has none")


def test_a_held_gpu_is_waited_for_by_the_name_of_its_holder() -> None:
    held = [Holding("train-fiqa-0003", ["GPU-0"])]
    assert place(ONE, [a_gpu()], held, 1) == Wait("waits for GPU 0: held by train-fiqa-0003")
    both = [Holding("train-fiqa-0003", ["GPU-0", "GPU-1"])]
    answer = place(Resources(gpus=2), [a_gpu(0), a_gpu(1)], both, 1)
    assert answer == Wait("waits for 2 GPUs: GPU 0 held by train-fiqa-0003; GPU 1 held by train-fiqa-0003")


def test_an_exclusive_run_takes_the_other_gpu() -> None:
    assert place(ONE, [a_gpu(0), a_gpu(1)], [Holding("train-a-0001", ["GPU-0"])], 1) == Placement(["GPU-1"], 0)


def test_shared_runs_share_while_their_predictions_fit() -> None:
    held = [Holding("train-a-0001", ["GPU-0"], 10 * GIB)]
    assert place(sharing(13 * GIB), [a_gpu()], held, 1) == Placement(["GPU-0"], 0)
    answer = place(sharing(14 * GIB), [a_gpu()], held, 1)
    assert answer == Wait("waits for GPU 0: needs 14.0 GiB, 13.5 GiB free, shared by train-a-0001")


def test_shared_and_exclusive_never_mix() -> None:
    assert place(ONE, [a_gpu()], [Holding("train-a-0001", ["GPU-0"], GIB)], 1) == Wait("waits for GPU 0: shared by train-a-0001")
    assert isinstance(place(sharing(GIB), [a_gpu()], [Holding("train-a-0001", ["GPU-0"])], 1), Wait)


def test_a_shared_run_fills_the_fuller_gpu_so_that_the_other_stays_whole() -> None:
    held = [Holding("train-a-0001", ["GPU-1"], 10 * GIB)]
    assert place(sharing(5 * GIB), [a_gpu(0), a_gpu(1)], held, 1) == Placement(["GPU-1"], 0)
    assert place(ONE, [a_gpu(0), a_gpu(1)], held, 1) == Placement(["GPU-0"], 0)


def test_an_exclusive_run_takes_the_largest_gpu() -> None:
    assert place(ONE, [a_gpu(0), a_gpu(1, memory_total_bytes=80 * GIB)], [], 1) == Placement(["GPU-1"], 0)


def test_a_prediction_larger_than_every_gpu_is_never() -> None:
    assert place(sharing(40 * GIB), [a_gpu(0), a_gpu(1)], [], 1) == Never(
        "needs 40.0 GiB on a GPU; the largest GPU here has 23.5 GiB to give"
    )
    mixed = [a_gpu(0), a_gpu(1, memory_total_bytes=80 * GIB)]
    assert isinstance(place(sharing(40 * GIB, gpus=2), mixed, [], 1), Never)
    assert place(sharing(40 * GIB), mixed, [], 1) == Placement(["GPU-1"], 0)


def test_a_foreign_process_keeps_an_exclusive_run_away_by_name() -> None:
    taken = a_gpu(memory_used_bytes=3 * GIB, processes=[a_process(3 * GIB)])
    assert place(ONE, [taken], [], 1) == Wait("waits for GPU 0: 3.0 GiB in use by alice: python notebook.py (pid 4711)")
    assert place(ONE, [taken, a_gpu(1)], [], 1) == Placement(["GPU-1"], 0)


def test_a_desktop_session_is_tolerated() -> None:
    session = a_gpu(memory_used_bytes=FOREIGN_TOLERANCE_BYTES, processes=[a_process(FOREIGN_TOLERANCE_BYTES)])
    assert place(ONE, [session], [], 1) == Placement(["GPU-0"], 0)


def test_memory_that_no_listed_process_explains_is_foreign_too() -> None:
    answer = place(ONE, [a_gpu(memory_used_bytes=2 * GIB)], [], 1)
    assert answer == Wait("waits for GPU 0: 2.0 GiB in use by a process that the driver does not list")
    assert isinstance(place(sharing(22 * GIB), [a_gpu(memory_used_bytes=2 * GIB)], [], 1), Wait)


def test_a_run_that_uses_more_than_predicted_is_charged_what_it_uses() -> None:
    held = [Holding("train-a-0001", ["GPU-0"], 4 * GIB)]
    swollen = a_gpu(memory_used_bytes=15 * GIB, processes=[a_process(15 * GIB, run="train-a-0001")])
    assert isinstance(place(sharing(9 * GIB), [swollen], held, 1), Wait)
    assert place(sharing(8 * GIB), [swollen], held, 1) == Placement(["GPU-0"], 0)


def test_a_run_of_ours_that_has_ended_but_still_holds_memory_is_waited_out() -> None:
    leaving = a_gpu(memory_used_bytes=9 * GIB, processes=[a_process(9 * GIB, run="train-a-0001")])
    assert place(ONE, [leaving], [], 1) == Wait("waits for GPU 0: 9.0 GiB in use by train-a-0001 (pid 4711)")


def test_the_use_of_a_holder_that_the_driver_does_not_list_is_not_counted_twice() -> None:
    """In a container the driver lists no pids, and the memory in use is our own run's."""
    held = [Holding("train-a-0001", ["GPU-0"], 10 * GIB)]
    assert place(sharing(13 * GIB), [a_gpu(memory_used_bytes=9 * GIB)], held, 1) == Placement(["GPU-0"], 0)
    assert isinstance(place(sharing(13 * GIB), [a_gpu(memory_used_bytes=12 * GIB)], held, 1), Wait)


def test_a_pid_that_means_nothing_here_may_be_the_holders_own() -> None:
    """A container that sees the host's pids: nobody here has that number."""
    held = [Holding("train-a-0001", ["GPU-0"], 10 * GIB)]
    hidden: GpuProcess = {"pid": 99, "memory_bytes": 9 * GIB, "run": None, "owner": "", "command": ""}
    gpu = a_gpu(memory_used_bytes=9 * GIB, processes=[hidden])
    assert place(sharing(13 * GIB), [gpu], held, 1) == Placement(["GPU-0"], 0)
    assert place(ONE, [gpu], [], 1) == Wait("waits for GPU 0: 9.0 GiB in use by unknown user: ? (pid 99)")


def test_a_gpu_that_does_not_tell_its_memory_is_never_shared() -> None:
    silent = a_gpu(memory_total_bytes=None, memory_used_bytes=None)
    assert place(sharing(4 * GIB), [silent], [], 1) == Placement(["GPU-0"], 0)
    assert isinstance(place(sharing(4 * GIB), [silent], [Holding("train-a-0001", ["GPU-0"], GIB)], 1), Wait)


def test_several_gpus_come_in_the_order_of_their_index() -> None:
    gpus = [a_gpu(2), a_gpu(0), a_gpu(1)]
    assert place(Resources(gpus=2), gpus, [], 1) == Placement(["GPU-0", "GPU-1"], 0)


def a_random_box(chance: random.Random) -> tuple[list[GpuSample], list[Holding]]:
    gpus = []
    for index in range(chance.randint(0, 4)):
        total = chance.choice([8, 24, 80]) * GIB
        foreign = chance.choice([0, 0, 0, chance.randint(0, total)])
        listed = chance.random() < 0.5
        gpus.append(
            a_gpu(
                index,
                health=chance.choice(["ok", "ok", "ok", "ok", "lost", "stalled", "error"]),
                memory_total_bytes=chance.choice([total, total, total, None]),
                memory_used_bytes=foreign,
                processes=[a_process(foreign)] if foreign and listed else [],
            )
        )
    return gpus, []


def a_random_wish(chance: random.Random) -> Resources:
    memory = chance.choice([None, chance.randint(1, 30 * GIB)])
    return Resources(gpus=chance.choice(["auto", 0, 1, 1, 2, 3]), gpu_memory_bytes=memory, cpu_slots=chance.randint(1, 3))


@pytest.mark.parametrize("seed", range(60))
def test_no_order_of_starts_and_ends_over_commits_a_box(seed: int) -> None:
    chance = random.Random(seed)
    gpus, holdings = a_random_box(chance)
    by_uuid = {gpu["uuid"]: gpu for gpu in gpus}
    slots = chance.randint(1, 4)
    for number in range(40):
        if holdings and chance.random() < 0.3:
            holdings.pop(chance.randrange(len(holdings)))
        if gpus and chance.random() < 0.1:
            chance.choice(gpus)["health"] = chance.choice(["ok", "lost", "stalled"])
        wish = a_random_wish(chance)
        answer = place(wish, gpus, holdings, slots)
        assert answer == place(wish, list(reversed(gpus)), list(holdings), slots), "the same question has the same answer"
        if not isinstance(answer, Placement):
            assert answer.reason
            continue
        assert all(by_uuid[uuid]["health"] == "ok" for uuid in answer.gpu_uuids)
        assert len(set(answer.gpu_uuids)) == len(answer.gpu_uuids)
        if wish.gpus != "auto":
            assert len(answer.gpu_uuids) == wish.gpus
        assert answer.cpu_slots == (0 if answer.gpu_uuids else wish.cpu_slots)
        assert wish.gpu_memory_bytes != "auto"
        holdings.append(Holding(f"run-{number}", answer.gpu_uuids, wish.gpu_memory_bytes if answer.gpu_uuids else None, answer.cpu_slots))
        assert sum(holding.cpu_slots for holding in holdings) <= slots
        for uuid in answer.gpu_uuids:
            here = [holding for holding in holdings if uuid in holding.gpu_uuids]
            total = by_uuid[uuid]["memory_total_bytes"]
            if any(holding.memory_bytes is None for holding in here) or total is None:
                assert len(here) == 1, "a GPU held alone is held by one"
            else:
                foreign = by_uuid[uuid]["memory_used_bytes"] if by_uuid[uuid]["processes"] else 0
                assert sum(holding.memory_bytes or 0 for holding in here) + (foreign or 0) <= total


@pytest.mark.parametrize("seed", range(60))
def test_what_never_fits_does_not_fit_an_empty_healthy_box_either(seed: int) -> None:
    """`Never` is final: with everybody gone and every GPU well, the answer is still no; and `Wait` becomes yes."""
    chance = random.Random(10_000 + seed)
    gpus, _ = a_random_box(chance)
    wish = a_random_wish(chance)
    slots = chance.randint(1, 4)
    answer = place(wish, gpus, [Holding("train-a-0001", [gpu["uuid"] for gpu in gpus], None, 1)], slots)
    if wish.gpus == "auto" and gpus and all(gpu["health"] == "lost" for gpu in gpus):
        return  # auto goes to the CPU for want of a GPU: another question on a healthy box
    empty = [a_gpu(gpu["index"], memory_total_bytes=gpu["memory_total_bytes"]) for gpu in gpus]
    later = place(wish, empty, [], slots)
    assert isinstance(later, Never) == isinstance(answer, Never)
