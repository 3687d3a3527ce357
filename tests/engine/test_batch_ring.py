"""The rows behind a step: what is noted is what was learnt from, bounded, and shown with its text."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.alarm_rows import read_texts, rows_of_step
from llmops_tui.engine.jobs.batch_ring import KEPT_STEPS, RING, BatchRing
from llmops_tui.engine.jobs.batching import LengthGroupedOrder
from llmops_tui.engine.jobs.outcome import run_job
from llmops_tui.engine.jobs.run_trainer import RunTrainer
from llmops_tui.engine.jobs.train import OUT_OF_MEMORY_ADVICE, train
from llmops_tui.specs.train import TrainSpec
from tests.engine.tiny_model import make_tokenizer, save_model, write_rows, write_run


class Pairs:
    """Step n learns from the items n and n + 1."""

    def rows_of_step(self, step: int) -> list[int]:
        return [step, step + 1]


def ring_at(run: Path, attempt: int = 1, steps: int = 10_000) -> BatchRing:
    return BatchRing(run / RING, attempt, Pairs(), [[item + 100] for item in range(steps + 2)])


def test_a_step_is_found_with_its_rows_and_one_that_is_too_old_is_not(tmp_path: Path) -> None:
    ring, run = ring_at(tmp_path), RunDir(tmp_path)
    for step in range(1, 3 * KEPT_STEPS + 1):
        ring.note(step)
    ring.close()
    assert rows_of_step(run, 1, 3 * KEPT_STEPS) == [3 * KEPT_STEPS + 100, 3 * KEPT_STEPS + 101]
    assert rows_of_step(run, 1, 2 * KEPT_STEPS + 1), "the last 2,000 are always there"
    assert rows_of_step(run, 1, 3) == []
    assert len((tmp_path / RING).read_bytes().splitlines()) <= 2 * KEPT_STEPS


def test_a_further_attempt_goes_on_in_the_same_file_and_a_step_twice_learnt_is_told_apart(tmp_path: Path) -> None:
    first = ring_at(tmp_path)
    for step in (1, 2, 3):
        first.note(step)
    first.close()
    with open(tmp_path / RING, "ab") as file:
        file.write(b'{"type":"batch","att')  # it was killed here
    second = ring_at(tmp_path, attempt=2)
    second.note(3)
    second.close()
    assert rows_of_step(RunDir(tmp_path), 1, 2) == [102, 103]
    assert rows_of_step(RunDir(tmp_path), 2, 3) == [103, 104]
    assert rows_of_step(RunDir(tmp_path), 2, 1) == []


def test_a_place_that_cannot_be_written_ends_the_noting_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("no directory")
    ring = ring_at(tmp_path)
    ring.note(1)
    ring.note(2)
    assert "not noted" in ring.problem


def test_a_link_in_the_rings_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "secret").write_text('{"step":1,"rows":[1]}\n')
    (tmp_path / RING).symlink_to(tmp_path / "secret")
    assert rows_of_step(RunDir(tmp_path), 1, 1) == []


def test_the_rows_text_is_shown_without_its_keys_and_cut(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"question {n}\n"}, {"role": "assistant", "content": "x" * 300}]} for n in range(5)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts, problem = read_texts(path, [4, 2])
    assert problem == ""
    assert [row["number"] for row in texts] == [4, 2]
    assert texts[0]["text"].startswith("question 3 xxx")
    assert texts[0]["text"].endswith("…")
    texts, problem = read_texts(tmp_path / "gone.jsonl", [4])
    assert (texts[0]["number"], texts[0]["text"]) == (4, "")
    assert "cannot be read" in problem


def test_the_rows_of_a_step_are_those_of_the_order_also_where_the_last_update_is_short() -> None:
    order = LengthGroupedOrder([5] * 10, 4, seed=3)
    told = [order.rows_of_step(step) for step in range(1, 7)]
    assert [len(rows) for rows in told] == [4, 4, 2, 4, 4, 2]
    assert [row for rows in told[:3] for row in rows] == order.order(0)
    assert [row for rows in told[3:] for row in rows] == order.order(1)


@pytest.mark.parametrize("packing", [False, True])
def test_what_is_noted_of_a_step_is_what_the_trainer_learnt_from(packing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from the batches themselves: row n asks what n - 1 and n - 1 is."""
    model, rows = save_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl", 14)
    spec = {
        "model": str(model), "dataset": {"path": str(rows), "eval_fraction": 0.1}, "lora": {"r": 2}, "epochs": 2, "micro_batch": 2,
        "accumulation": 2, "max_length": 200, "sample_tokens": 1, "threads": 1, "packing": packing,
    }  # fmt: skip
    run = write_run(tmp_path / "train-ring-0001", TrainSpec.model_validate(spec).model_dump(), model, rows)
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(run))
    monkeypatch.setenv("LLMOPS_ATTEMPT", "1")
    monkeypatch.delenv("LLMOPS_RESUME_FROM", raising=False)
    learnt, tokenizer, threads = [], make_tokenizer(), torch.get_num_threads()
    handler = signal.getsignal(signal.SIGTERM)
    taken = RunTrainer.get_batch_samples

    def seen(self: RunTrainer, *arguments: Any) -> Any:
        batches, items = taken(self, *arguments)
        text = " ".join(tokenizer.decode(row) for batch in batches for row in batch["input_ids"])
        learnt.append(sorted(int(n) + 1 for n in re.findall(r"What is (\d+) \+", text)))
        return batches, items

    monkeypatch.setattr(RunTrainer, "get_batch_samples", seen)
    assert run_job(train, OUT_OF_MEMORY_ADVICE) == 0
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
    told = [sorted(rows_of_step(RunDir(run), 1, step)) for step in range(1, len(learnt) + 1)]
    assert told == learnt
    assert len(learnt) > 4
