"""Two processes that train one model are one run: the same losses as one process, stopped, resumed and killed as one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from llmops_tui.data.checkpoints import newest_complete
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.backends.local import spawn_shim
from llmops_tui.engine.jobs import rank_group, ranks
from llmops_tui.engine.jobs.event_writer import END_DESCRIPTOR
from llmops_tui.engine.jobs.launch import job_argv
from llmops_tui.specs.train import TrainSpec
from tests.engine.attempts import finish, is_gone, make_attempt
from tests.engine.test_train_job import _process_as_before, end_of, run_train, series  # noqa: F401  # a fixture
from tests.engine.tiny_model import make_model, make_tokenizer, read_events, save_model, write_rows, write_run
from tests.waiting import wait_for

# Real processes that import torch, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)


def make_run(place: Path, name: str, count: int, micro_batch: int, strategy: str = "ddp", **changes: Any) -> RunDir:
    rows = place / "rows.jsonl"
    spec: dict[str, Any] = {
        "model": str(place / "model"),
        "dataset": {"path": str(rows), "eval_fraction": 0.25},
        "lora": {"r": 4},
        "optim": {"learning_rate": 0.01},
        "max_steps": 5,
        "micro_batch": micro_batch,
        "accumulation": 2,
        "max_length": 120,
        "sample_tokens": 2,
        "threads": 1,
        "resources": {"gpus": 0},
        "processes": {"count": count, "strategy": strategy},
        **changes,
    }
    return RunDir(write_run(place / f"train-{name}-0001", TrainSpec.model_validate(spec).model_dump(), Path(spec["model"]), rows))


def launched(run: RunDir, attempt: int = 1, resume: Path | None = None) -> Any:
    """The shim of an attempt, started as the engine would."""
    env = {
        "PATH": os.environ["PATH"],
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
        "LLMOPS_RUN_DIR": str(run.path),
        "LLMOPS_RUN_ID": run.id,
        "LLMOPS_ATTEMPT": str(attempt),
        "LLMOPS_CONTROL_BYTES": str(run.control.stat().st_size if run.control.exists() and attempt > 1 else 0),
        **({"LLMOPS_RESUME_FROM": str(resume)} if resume else {}),
    }
    spec = TrainSpec.model_validate(json.loads(run.spec.read_bytes())["spec"])
    make_attempt(run, job_argv(spec, run), attempt, env=env)
    return spawn_shim(run, attempt)


def save_untied(directory: Path) -> None:
    """A model whose output layer has weights of its own."""
    config = make_model().config
    config.tie_word_embeddings = False
    LlamaForCausalLM(config).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)


def processes_of(run: RunDir) -> list[int]:
    """Whoever has this run in its environment, but the shim."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and f"\0LLMOPS_RUN_ID={run.id}\0".encode() in b"\0" + (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if not is_gone(pid)]


def rank_one(run: RunDir) -> int | None:
    for pid in processes_of(run):
        try:
            if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes():
                return pid
        except OSError:
            continue
    return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    save_model(place / "model")
    write_rows(place / "rows.jsonl")
    return place


def stopped_after_the_first_step(run: RunDir) -> Path:
    """Its checkpoint."""
    append_line(run.control, {"t": 4e9, "command": "pause", "mode": "hold", "who": "ada"})
    shim = launched(run)

    def held() -> bool:
        return run.events.exists() and any(event.get("phase") == "paused" for event in read_events(run.path))

    wait_for(held, 60, "the hold after the first step")
    append_line(run.control, {"t": 4e9, "command": "stop", "who": "ada"})
    assert finish(run, shim)["code"] == 0
    assert end_of(run.path)["status"] == "stopped"
    checkpoint = newest_complete(run)
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-1"
    assert {file.name for file in checkpoint.glob("rng_state_*.pth")} == {"rng_state_0.pth", "rng_state_1.pth"}
    return checkpoint


def assert_same_training(run: RunDir, one: RunDir) -> None:
    assert series(run.path, "train/loss") == pytest.approx(series(one.path, "train/loss"), abs=1e-5)
    assert series(run.path, "eval/loss") == pytest.approx(series(one.path, "eval/loss"), abs=1e-5)
    assert series(run.path, "train/tokens") == series(one.path, "train/tokens")


def test_two_ranks_stopped_and_resumed_have_the_losses_of_one_process(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    run = make_run(place, "two", count=2, micro_batch=1)
    checkpoint = stopped_after_the_first_step(run)
    shim = launched(run, 2, checkpoint)
    assert shim.wait(180) == 0
    end = end_of(run.path)
    assert (end["status"], end["summary"]["processes"], end["summary"]["steps"]) == ("succeeded", 2, 5)
    steps = [event["step"] for event in read_events(run.path) if event["type"] == "metric" and "train/loss" in event["values"]]
    assert steps == [1, 2, 3, 4, 5], "each step is told once, by the first rank"
    assert [event["seq"] for event in read_events(run.path)] == list(range(1, len(read_events(run.path)) + 1))

    one = make_run(place, "one", count=1, micro_batch=2)
    assert run_train(monkeypatch, one.path) == 0
    assert_same_training(run, one)


def test_two_ranks_resumed_in_their_second_pass_learn_from_the_rows_that_were_left(place: Path) -> None:
    data = {"path": str(place / "rows.jsonl"), "limit": 16, "eval_fraction": 0}
    run = make_run(place, "passes", 2, 1, dataset=data, max_steps=7, checkpoint_every=5)
    assert launched(run).wait(180) == 0
    assert end_of(run.path)["status"] == "succeeded", run.log.read_text()
    whole = series(run.path, "train/loss")
    again = RunDir(run.path.with_name(run.id.replace("passes", "again")))
    shutil.copytree(run.path / "checkpoints" / "checkpoint-5", again.checkpoints / "checkpoint-5")
    shutil.copy(run.spec, again.spec)
    assert launched(again, 2, again.checkpoints / "checkpoint-5").wait(180) == 0
    rest = series(again.path, "train/loss")
    assert sorted(rest) == [6, 7]
    assert rest == {step: whole[step] for step in rest}, "four updates are a pass: the fifth is the first of the second"


def test_a_model_cut_over_two_ranks_is_stopped_resumed_and_saved_whole(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    run = make_run(place, "cut", count=2, micro_batch=1, strategy="fsdp", adaptation="full")
    checkpoint = stopped_after_the_first_step(run)
    parts = {path.name for path in (checkpoint / "optimizer_0").iterdir()}
    assert {"__0_0.distcp", "__1_0.distcp"} <= parts, "each rank writes its part of the optimizer's state"
    assert launched(run, 2, checkpoint).wait(180) == 0
    assert end_of(run.path)["status"] == "succeeded"
    said = [event["message"] for event in read_events(run.path) if event["type"] == "log"]
    assert any("weights cut over 2 processes: 0.01M of 0.03M" in words for words in said)

    one = make_run(place, "whole", count=1, micro_batch=2, adaptation="full")
    assert run_train(monkeypatch, one.path) == 0
    assert_same_training(run, one)
    theirs, ours = (safetensors.torch.load_file(each.artifacts / "model" / "model.safetensors") for each in (one, run))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0)
    assert json.loads((run.artifacts / "model" / "config.json").read_bytes())["architectures"] == ["LlamaForCausalLM"]


def test_an_adapter_with_less_rows_than_ranks_is_cut_too_and_loads_in_one_process(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    spec: dict[str, Any] = {"lora": {"r": 1}, "model": str(place / "untied")}
    save_untied(place / "untied")
    run, one = make_run(place, "thin", 2, 1, "fsdp", **spec), make_run(place, "thin-whole", 1, 2, **spec)
    assert launched(run).wait(180) == 0
    assert run_train(monkeypatch, one.path) == 0
    assert_same_training(run, one)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(place / "untied"), run.artifacts / "adapter")
    theirs = safetensors.torch.load_file(one.artifacts / "adapter" / "adapter_model.safetensors")
    ours = get_peft_model_state_dict(again)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0)


def test_a_rank_that_is_killed_ends_the_run_with_its_number_and_leaves_no_process(place: Path) -> None:
    run = make_run(place, "killed", count=2, micro_batch=1)
    shim = launched(run)
    victim = wait_for(lambda: rank_one(run), 20, "the second rank")
    os.kill(victim, signal.SIGKILL)
    assert finish(run, shim)["code"] == 128 + signal.SIGKILL
    end = end_of(run.path)
    assert end["status"] == "failed"
    assert "rank 1 of 2 was killed by SIGKILL" in end["error"]
    assert processes_of(run) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "kto"}, "processes.count: kto trains in one process"),
        ({"processes": {"count": 1, "strategy": "fsdp"}}, "processes.strategy: fsdp cuts a model over several processes; raise"),
        ({"processes": {"count": 2, "strategy": "fsdp"}, "adaptation": "qlora"}, "processes.strategy: 4-bit weights cannot be cut"),
        ({"resources": {"gpus": 1}}, "resources.gpus: 2 processes take 2 GPUs"),
        ({"processes": {"count": 1}, "resources": {"gpus": 2}}, "resources.gpus: one process trains on one GPU, and it says 2; set"),
        ({"model": "", "scratch": {"preset": "nano"}, "max_length": 64}, "processes.count: a model from scratch"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_at_its_field(changes: dict[str, Any], words: str) -> None:
    wish = {"model": "m", "dataset": {"path": "d"}, "resources": {"gpus": 0}, "processes": {"count": 2}, "micro_batch": 2, **changes}
    with pytest.raises(ValueError, match=words):
        TrainSpec.model_validate(wish)


def test_the_rank_that_failed_is_told_and_not_the_one_that_lost_its_peer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each rank is a line of Python: what it leaves, and its exit code."""
    said = {
        0: {"t": 2.0, "status": "failed", "summary": {}, "error": "RuntimeError: connection closed by peer"},
        1: {"t": 1.0, "status": "out_of_memory", "summary": {}, "error": "MemoryError", "memory": "host"},
    }
    program = (
        f"import json, os; os.write(int(os.environ['{END_DESCRIPTOR}']), json.dumps({said!r}[int(os.environ['RANK'])]).encode()); exit(1)"
    )
    start = subprocess.Popen
    monkeypatch.setattr(rank_group.subprocess, "Popen", lambda _argv, **others: start([sys.executable, "-c", program], **others))
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(tmp_path))
    assert ranks.main(["2", "train"]) == 1
    end = end_of(tmp_path)
    assert (end["status"], end["error"], end["memory"]) == ("out_of_memory", "rank 1 of 2: MemoryError", "host")


def test_one_process_is_started_as_ever(tmp_path: Path) -> None:
    spec = TrainSpec.model_validate({"model": "m", "dataset": {"path": "d"}})
    assert job_argv(spec, RunDir(tmp_path)) == [sys.executable, "-m", "llmops_tui.engine.jobs.train"]
