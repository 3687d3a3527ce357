"""A training that ran out of memory: how it is told apart, what is tried next, and what is advised in the end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.estimate.facts import describe_model
from llmops_tui.engine.estimate.saving import share_saved
from llmops_tui.engine.jobs.adjustments import VARIABLE, Adjustment, adjusted, of_this_attempt
from llmops_tui.engine.jobs.outcome import is_out_of_memory, memory_of, run_job
from llmops_tui.engine.memory_retry import advice, next_adjustment
from llmops_tui.engine.queue_rules import adjustment_after, another_attempt, memory_advice
from llmops_tui.engine.recovery import load_run
from llmops_tui.engine.shim import oom_kills
from llmops_tui.engine.verdict import Verdict, judge
from llmops_tui.specs.train import TrainSpec
from tests.unit.test_estimate import SMOLLM2


def spec(**values: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "m", "dataset": {"path": "d"}, **values})


@pytest.mark.parametrize(
    ("micro_batch", "accumulation", "smaller"), [(4, 1, (2, 2)), (3, 2, (1, 6)), (6, 1, (3, 2)), (5, 4, (2, 10)), (2, 8, (1, 16))]
)
def test_half_the_rows_a_pass_leaves_the_rows_of_an_update_as_they_were(
    micro_batch: int, accumulation: int, smaller: tuple[int, int]
) -> None:
    to = next_adjustment(spec(micro_batch=micro_batch, accumulation=accumulation), halved=False)
    assert to == {"micro_batch": smaller[0], "accumulation": smaller[1]}
    assert smaller[0] * smaller[1] == micro_batch * accumulation


def test_after_half_the_rows_comes_checkpointing_then_half_again_then_nothing() -> None:
    now = spec(micro_batch=4)
    steps = []
    while (to := next_adjustment(now, halved=bool(steps))) is not None:
        steps.append(to)
        now = adjusted(now, to)
    assert steps == [
        {"micro_batch": 2, "accumulation": 2},
        {"gradient_checkpointing": True},
        {"micro_batch": 1, "accumulation": 4},
    ]


def test_the_advice_names_what_a_shorter_row_saves_of_the_predicted_peak() -> None:
    last = spec(micro_batch=1, gradient_checkpointing=True, max_length=1024)
    parts = {"weights": 100, "optimizer": 100, "activations": 700, "loss": 100}
    found = advice(last, {"parts": parts})
    assert found is not None
    assert (found.settings, found.words) == ({"max_length": 512}, "max_length 512 would need about 40% less")
    assert "half the activations" in str(advice(last, None))
    assert advice(spec(micro_batch=1, gradient_checkpointing=True, max_length=128), None) is None


def test_what_saves_next_to_nothing_is_passed_over_and_the_rest_says_how_much() -> None:
    last = spec(micro_batch=4, max_length=1024)
    halved = advice(last, None, lambda other: 0.3 if other.micro_batch == 2 else 0.5)
    assert halved is not None
    assert (halved.words, halved.saves) == ("try micro_batch=2 accumulation=2 (the same batch): about 30% less memory", 0.3)
    # As on a processor, where a pass is 512 tokens however many rows are asked for.
    checkpointed = advice(last, None, lambda other: 0.0 if other.micro_batch == 2 else 0.4)
    assert checkpointed is not None
    assert checkpointed.settings == {"gradient_checkpointing": True}
    shorter = advice(last, None, lambda other: 0.25 if other.max_length == 512 else -0.1)
    assert shorter is not None
    assert (shorter.settings, shorter.words) == ({"max_length": 512}, "max_length 512 would need about 25% less")
    whole = spec(micro_batch=1, gradient_checkpointing=True, adaptation="full")
    adapter = advice(whole, None, lambda other: 0.7 if other.adaptation == "lora" else 0.0)
    assert adapter is not None
    assert (adapter.settings, adapter.words) == ({"adaptation": "lora"}, "adaptation=lora would need about 70% less")
    assert advice(last, None, lambda other: 0.0) is None, "no advice is better than one that saves nothing"


def test_what_other_settings_save_is_predicted_from_what_was_found_at_the_submission(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SMOLLM2))
    rows = {"learnt": 600, "held_out": 48, "mean_tokens": 900.0, "longest_tokens": 2000, "source": "600 rows read"}
    gpu = {"device": "cuda", "device_name": "a GPU", "capacity_bytes": 24 << 30}
    prepared = {"facts": {"model": describe_model(model), "rows": rows}, "estimate": gpu}
    last = spec(micro_batch=8, packing=False, gradient_checkpointing=False)
    half, checkpointed = (
        share_saved(prepared, last, last.model_copy(update=to)) for to in ({"micro_batch": 4}, {"gradient_checkpointing": True})
    )
    assert half is not None
    assert checkpointed is not None
    assert 0.2 < half < 0.5
    assert checkpointed > half
    processor = {**prepared, "estimate": {**gpu, "device": "cpu"}}
    assert share_saved(processor, last, last.model_copy(update={"micro_batch": 4})) == pytest.approx(0.0, abs=0.02)
    assert share_saved({"estimate": gpu}, last, last) is None
    assert share_saved({**prepared, "estimate": None}, last, last) is None


@pytest.mark.parametrize(
    ("exit_record", "state"),
    [
        ({"signal": signal.SIGKILL, "reason": "exited", "oom_kills": {"group": 1, "box": 1}}, "out_of_memory"),
        ({"signal": signal.SIGKILL, "reason": "exited", "oom_kills": {"group": 0, "box": 3}}, "failed"),
        ({"signal": signal.SIGKILL, "reason": "exited", "oom_kills": {"box": 1}}, "out_of_memory"),
        ({"code": 137, "reason": "exited", "oom_kills": {"group": 1}}, "out_of_memory"),
        ({"signal": signal.SIGKILL, "reason": "exited"}, "failed"),
        ({"code": 1, "reason": "exited", "oom_kills": {"group": 1}}, "failed"),
    ],
)
def test_a_kill_by_the_kernel_is_told_from_one_by_somebody(exit_record: dict[str, Any], state: str) -> None:
    assert judge(exit_record, None, "").state == state


def test_the_memory_that_ran_out_is_named() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's, by name."""

    cuda, host = OutOfMemoryError("CUDA out of memory. Tried to allocate"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")
    assert [memory_of(problem) for problem in (cuda, host, MemoryError())] == ["gpu", "host", "host"]
    assert all(is_out_of_memory(problem) for problem in (cuda, host, MemoryError()))
    for whose, words in (("gpu", "memory of the GPU"), ("host", "memory of the host"), ("", "no more")):
        end = {"status": "out_of_memory", "error": "no more", "memory": whose}
        assert words in judge({"code": 1, "reason": "exited"}, end, "").reason


def test_a_job_tells_whose_memory_ran_out_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(*_: object) -> tuple[dict[str, Any], bool]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9e12 bytes")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(tmp_path))
    (tmp_path / "spec.json").write_text("{}")
    try:
        assert run_job(job, "use less") == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    end = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (end["status"], end["memory"]) == ("out_of_memory", "host")
    assert judge({"code": 1, "reason": "exited"}, end, "").reason.startswith("the memory of the host ran out: RuntimeError")


def test_the_shim_counts_the_kernels_kills_where_it_can() -> None:
    counts = oom_kills()
    assert set(counts) <= {"box", "group"}
    assert "box" in counts
    assert all(count >= 0 for count in counts.values())


def test_an_engine_killed_between_the_decision_and_the_queue_decides_the_same_for_the_same_attempt(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "train-a-0001")
    run.path.mkdir()
    record = {"id": run.id, "spec": spec(micro_batch=8).model_dump(mode="json")}
    run.append_journal({"t": 1.0, "entry": "state", "state": "running", "attempt": 1, "reason": "", "data": {}})
    before = load_run(run, record)
    to = adjustment_after(before)
    assert to == {"micro_batch": 4, "accumulation": 2}
    run.append_journal({"t": 2.0, "entry": "adjusted", "state": None, "attempt": 2, "reason": "", "data": {"from": {}, "to": to}})
    again = load_run(run, record)
    assert again.adjustment == {}, "the first attempt did as the spec says"
    assert adjustment_after(again) == to
    assert another_attempt(again, Verdict("out_of_memory", "no more"))[0]
    run.append_journal({"t": 3.0, "entry": "state", "state": "queued", "attempt": 2, "reason": "", "data": {}})
    assert load_run(run, record).adjustment == to
    for attempt, data in ((3, {"gradient_checkpointing": True}),):
        run.append_journal({"t": 4.0, "entry": "adjusted", "attempt": attempt, "data": {"to": data}})
        run.append_journal({"t": 5.0, "entry": "state", "state": "queued", "attempt": attempt, "data": {}})
    last = load_run(run, record)
    assert adjustment_after(last) is None, "as often as out_of_memory.retries says"
    found = memory_advice(last)
    assert found is not None
    assert found.settings == {"micro_batch": 2, "accumulation": 4, "gradient_checkpointing": True}


def test_nonsense_told_to_a_job_adjusts_nothing() -> None:
    for text in ("", "[]", "{", '{"micro_batch": 0, "accumulation": true, "learning_rate_scale": "x", "evaluate_every": -1, "other": 1}'):
        assert of_this_attempt({VARIABLE: text}) == Adjustment()
    assert of_this_attempt({VARIABLE: json.dumps({"evaluate_every": None, "learning_rate_scale": 2})}) == {
        "evaluate_every": None, "learning_rate_scale": 2,
    }  # fmt: skip
