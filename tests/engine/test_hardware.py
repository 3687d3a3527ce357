"""What the machine decides about a fine-tune, and what the user may decide instead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmops_tui.engine.jobs import hardware
from llmops_tui.engine.jobs.hardware import plan_training
from llmops_tui.engine.jobs.samples import choose_prompts, show
from llmops_tui.errors import InsufficientResourcesError
from llmops_tui.specs.train import TrainSpec
from tests.engine.job_in_process import run_in_process
from tests.engine.tiny_model import save_model, write_rows


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def spec(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "m", "dataset": {"path": "d"}, **changes})


def test_a_cpu_trains_in_float32_without_checkpointing_or_packing_in_short_passes() -> None:
    plan = plan_training(spec(), Path("m"))
    assert (plan.device, plan.dtype, plan.bf16) == ("cpu", torch.float32, False)
    assert (plan.gradient_checkpointing, plan.packing) == (False, False)
    assert plan.token_budget is not None


def test_what_the_user_sets_is_kept() -> None:
    plan = plan_training(spec(dtype="bfloat16", packing=True, gradient_checkpointing=True, threads=3), Path("m"))
    assert (plan.dtype, plan.packing, plan.gradient_checkpointing, plan.threads) == (torch.bfloat16, True, True, 3)


@pytest.mark.parametrize(("granted", "threads"), [("7", 7), ("0", None), ("many", None), ("", None)])
def test_threads_follow_what_the_engine_granted(monkeypatch: pytest.MonkeyPatch, granted: str, threads: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", granted)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(5)))
    assert plan_training(spec(), Path("m")).threads == (threads or 5)


def test_a_gpu_that_torch_does_not_see_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(InsufficientResourcesError, match="torch sees no GPU in this process"):
        plan_training(spec(resources={"gpus": 1}), Path("m"))


def _seen_gpu(monkeypatch: pytest.MonkeyPatch, memory_bytes: int) -> None:
    """A GPU with bfloat16, as torch would tell of it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="a card", total_memory=memory_bytes))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (memory_bytes, memory_bytes))


def test_a_gpu_trains_every_weight_in_float32_with_bfloat16_products_where_it_holds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model")
    _seen_gpu(monkeypatch, 24 << 30)
    plan = plan_training(spec(adaptation="full"), model)
    assert (plan.dtype, plan.master, plan.bf16, plan.note, plan.gradient_checkpointing) == (torch.float32, True, True, "", False)
    assert plan.describe().startswith("cuda, bfloat16 on float32 weights, ")
    assert (plan.frozen.dtype, plan.frozen.master) == (torch.bfloat16, False)
    for choice in ({}, {"adaptation": "full", "dtype": "bfloat16"}):
        assert (plan_training(spec(**choice), model).dtype, plan_training(spec(**choice), model).master) == (torch.bfloat16, False)
    _seen_gpu(monkeypatch, 700 << 20)
    plan = plan_training(spec(adaptation="full"), model)
    assert (plan.dtype, plan.master) == (torch.bfloat16, False)
    assert plan.describe().startswith("cuda, bfloat16 (float32 weights and their moments would not fit), ")


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "orpo", "reward", "grpo", "distill"])
def test_weights_stay_float32_and_learn_what_bfloat16_would_round_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str
) -> None:
    save_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    pairs = [{"prompt": f"{n}?", "chosen": "Yes, indeed.", "rejected": "No, no."} for n in range(16)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    planned = plan_training
    monkeypatch.setattr(hardware, "plan_training", lambda *given: replace(planned(*given), master=True))
    judged = method in ("dpo", "kto", "orpo", "reward")
    ended = run_in_process(
        monkeypatch,
        tmp_path,
        {
            "kind": "train", "method": method, "model": "model", "adaptation": "full", "max_steps": 2, "micro_batch": 4, "max_length": 120,
            "dataset": {"path": "pairs.jsonl" if judged else "rows.jsonl"}, "sample_tokens": 1,
            "grpo": {"group": 4, "completion_tokens": 4, "beta": 0.1}, "distill": {"teacher": "model" if method == "distill" else ""},
            "optim": {"learning_rate": 1e-6, "schedule": "constant"},  # less than a bfloat16 of these weights can tell apart
        },
    )  # fmt: skip
    assert ended.end["status"] == "succeeded", ended.end["error"]
    saved = load_file(ended.run / "artifacts" / "model" / "model.safetensors")
    began = load_file(tmp_path / "model" / "model.safetensors")
    moved = [name for name in began if name in saved and not torch.equal(saved[name], began[name])]
    assert all(saved[name].dtype == torch.float32 for name in saved)
    assert moved or method == "grpo"  # answers that all earn the same teach nothing
    assert all(torch.equal(saved[name].bfloat16(), began[name].bfloat16()) for name in moved if "norm" in name)


def test_samples_are_asked_of_the_users_prompts_else_of_the_first_held_out_rows() -> None:
    user, answer = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
    assert choose_prompts(["Hi", "Ho"], [[user, answer]]) == [[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Ho"}]]
    assert choose_prompts([], [[user, answer], {"text": "x" * 900}, [user, answer]]) == [[user], "x" * 200]
    assert choose_prompts([], []) == []


def test_a_long_prompt_is_shown_short() -> None:
    assert show("x" * 1000).endswith("x…")
    assert len(show("x" * 1000)) == 400
