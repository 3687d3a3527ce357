"""What the machine decides about a fine-tune, and what the user may decide instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llmops_tui.engine.jobs.hardware import plan_training
from llmops_tui.engine.jobs.samples import choose_prompts, show
from llmops_tui.errors import InsufficientResourcesError
from llmops_tui.specs.train import TrainSpec


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


def test_samples_are_asked_of_the_users_prompts_else_of_the_first_held_out_rows() -> None:
    user, answer = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
    assert choose_prompts(["Hi", "Ho"], [[user, answer]]) == [[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Ho"}]]
    assert choose_prompts([], [[user, answer], {"text": "x" * 900}, [user, answer]]) == [[user], "x" * 200]
    assert choose_prompts([], []) == []


def test_a_long_prompt_is_shown_short() -> None:
    assert show("x" * 1000).endswith("x…")
    assert len(show("x" * 1000)) == 400
