"""Each method for judged answers on a tiny model: it learns what it is meant to, says so under the agreed names, and can be resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from llmops_tui.engine.jobs.outcome import run_job
from llmops_tui.engine.jobs.train import OUT_OF_MEMORY_ADVICE, train
from llmops_tui.specs.train import TrainSpec
from tests.engine.tiny_model import read_events, save_model, write_run

MakeRun = Callable[..., Path]

ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": [{"prompt": f"{n}?", "chosen": "Yes, indeed.", "rejected": "No, no."} for n in range(16)],
    "kto": [{"prompt": f"{n}?", "completion": "Yes, indeed." if n % 2 else "No, no.", "label": bool(n % 2)} for n in range(16)],
    "question_answer": [{"question": f"{n}?", "answer": "e"} for n in range(8)],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """The job sets the threads of torch and a handler of SIGTERM for its own process, which here is the tests'."""
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run_method(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Write a run of a method, do it here, and give its directory."""

    def run(
        method: str, row_format: str, resume: Path | None = None, status: str = "succeeded", held_out: float = 0.25, **changes: Any
    ) -> Path:
        rows = tmp_path / f"{row_format}.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS[row_format]))
        spec = {
            "method": method, "model": str(model), "dataset": {"path": str(rows), "format": row_format, "eval_fraction": held_out},
            "lora": {"r": 4}, "optim": {"learning_rate": 0.02, "schedule": "constant"}, "max_steps": 4, "micro_batch": 2,
            "max_length": 120, "sample_tokens": 2, "threads": 1, **changes,
        }  # fmt: skip
        directory = tmp_path / f"train-{method}-{len(list(tmp_path.glob('train-*'))):04}"
        write_run(directory, TrainSpec.model_validate(spec).model_dump(), model, rows)
        record = json.loads((directory / "spec.json").read_text())
        record["prepared"]["dataset"]["format"] = row_format
        (directory / "spec.json").write_text(json.dumps(record))
        monkeypatch.setenv("LLMOPS_RUN_DIR", str(directory))
        monkeypatch.delenv("LLMOPS_RESUME_FROM", raising=False)
        if resume:
            monkeypatch.setenv("LLMOPS_RESUME_FROM", str(resume))
        run_job(train, OUT_OF_MEMORY_ADVICE)
        end = read_events(directory)[-1]
        assert (end["status"], end["error"] if status == "succeeded" else "") == (status, "")
        return directory

    return run


def last(run: Path, name: str) -> float:
    """The newest value of a metric."""
    found = [event["values"][name] for event in read_events(run) if event["type"] == "metric" and name in event["values"]]
    return float(found[-1])


def series(run: Path, name: str) -> dict[int, float]:
    """A metric by step."""
    return {event["step"]: event["values"][name] for event in read_events(run) if name in event.get("values", {})}


def read_events_values(run: Path) -> set[str]:
    """Every metric the run told."""
    return {name for event in read_events(run) if event["type"] == "metric" for name in event["values"]}


def test_dpo_with_an_adapter_prefers_the_chosen_answers_to_the_model_it_began_as(run_method: MakeRun) -> None:
    run = run_method("dpo", "preference")
    summary = read_events(run)[-1]["summary"]
    assert (summary["before"]["reward_accuracy"], summary["before"]["reward_margin"]) == (0.5, 0.0)
    assert summary["after"]["reward_accuracy"] == 1.0
    assert summary["after"]["reward_margin"] > 0.05
    low, high = summary["after"]["reward_margin_interval"]
    assert low <= summary["after"]["reward_margin"] <= high
    assert last(run, "train/reward_margin") > 0
    assert last(run, "eval/reward_accuracy") == 1.0
    noted = [json.loads(line) for line in (run / "artifacts" / "batches.jsonl").read_text().splitlines()]
    assert [len(line["rows"]) for line in noted] == [2, 2, 2, 2]
    assert all(1 <= row <= 16 for line in noted for row in line["rows"])
    assert (run / "artifacts" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(("method", "row_format"), [("dpo", "preference"), ("kto", "kto"), ("grpo", "question_answer")])
def test_a_resumed_run_learns_what_the_uninterrupted_one_did(run_method: MakeRun, method: str, row_format: str) -> None:
    changes: dict[str, Any] = {"checkpoint_every": 2, "lora": {"r": 4, "dropout": 0.1}, "keep_checkpoints": 4}
    if method == "grpo":
        changes |= {"micro_batch": 4, "grpo": {"group": 4, "completion_tokens": 4}}
    whole = run_method(method, row_format, **changes)
    resumed = run_method(method, row_format, resume=whole / "checkpoints" / "checkpoint-2", **changes)
    # An exact match earns nothing here, so that what grpo shows is what was tried.
    metric = "train/entropy" if method == "grpo" else "train/loss"
    losses, again = series(whole, metric), series(resumed, metric)
    assert list(again) == [3, 4]
    assert [again[step] for step in (3, 4)] == [losses[step] for step in (3, 4)]


@pytest.mark.parametrize("row_format", ["kto", "preference"])
def test_kto_rewards_good_answers_more_than_bad_ones(run_method: MakeRun, row_format: str) -> None:
    run = run_method("kto", row_format, max_steps=6)
    summary = read_events(run)[-1]["summary"]
    assert (summary["before"]["reward_accuracy"], summary["before"]["reward_margin"]) == (0.5, 0.0)
    assert summary["after"]["reward_accuracy"] == 1.0
    assert summary["after"]["reward_margin"] > 0.01
    assert last(run, "train/kl") >= 0


def test_orpo_stays_stable_learns_the_chosen_answers_and_says_that_it_is_experimental(run_method: MakeRun) -> None:
    run = run_method("orpo", "preference", max_steps=12, preference={"beta": 0.5})
    summary = read_events(run)[-1]["summary"]
    assert summary["after"]["reward_accuracy"] == 1.0
    assert summary["after"]["loss"] < summary["before"]["loss"]
    assert last(run, "train/log_odds") > 0
    assert any(event["type"] == "log" and event["level"] == "warning" and "experimental" in event["message"] for event in read_events(run))


def test_a_reward_model_scores_chosen_answers_higher_and_is_saved_with_its_head(run_method: MakeRun) -> None:
    run = run_method("reward", "preference", max_steps=10, optim={"learning_rate": 0.005, "schedule": "constant"})
    summary = read_events(run)[-1]["summary"]
    assert summary["after"]["reward_accuracy"] == 1.0
    assert summary["after"]["reward_margin"] > summary["before"]["reward_margin"]
    assert last(run, "train/reward_accuracy") == 1.0
    with safe_open(run / "artifacts" / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert any("score" in name for name in file.keys())  # noqa: SIM118  # a safetensors file is no mapping


@pytest.mark.parametrize("method", ["dpo", "kto", "reward"])
def test_every_weight_can_be_trained_instead_of_an_adapter(run_method: MakeRun, method: str) -> None:
    changes = {"adaptation": "full", "optim": {"learning_rate": 0.003, "schedule": "constant"}, "max_steps": 8}
    run = run_method(method, "kto" if method == "kto" else "preference", **changes)
    summary = read_events(run)[-1]["summary"]
    assert summary["after"]["reward_margin"] > summary["before"]["reward_margin"]
    config = json.loads((run / "artifacts" / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification" if method == "reward" else "LlamaForCausalLM"]


def test_grpo_learns_what_a_function_of_the_users_rewards(run_method: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def tall(completion, row):\n    return sum(c > 'm' for c in completion) / len(row['question'])\n")
    run = run_method(
        "grpo", "question_answer", max_steps=8, micro_batch=16, optim={"learning_rate": 0.02, "schedule": "constant"},
        grpo={"rewards": [f"{tmp_path}/mine.py:tall", "exact"], "weights": [1.0, 0.5], "group": 8, "completion_tokens": 8, "beta": 0.01},
    )  # fmt: skip
    rewards = [event["values"]["train/reward_tall"] for event in read_events(run) if "train/reward_tall" in event.get("values", {})]
    assert len(rewards) == 8
    summary = read_events(run)[-1]["summary"]
    assert summary["reward_after"] > summary["reward_before"]
    assert "of held-out reward" in summary["kept"]
    assert last(run, "train/completion_tokens") <= 8
    assert last(run, "train/tokens") > 0
    assert {"train/reward", "train/reward_std", "train/kl", "train/reward_exact"} <= read_events_values(run)
    assert set(summary["after"]["rewards"]) == {"tall", "exact"}


def test_a_reward_that_raises_ends_the_run_with_step_and_row_and_keeps_what_was_learnt(
    run_method: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "calls = []\n\ndef mine(completion):\n    calls.append(0)\n    if len(calls) > 6:\n        raise KeyError('gone')\n    return 1.0\n"
    )
    run = run_method(
        "grpo", "question_answer", status="failed", held_out=0,
        grpo={"rewards": [f"{tmp_path}/mine.py:mine"], "group": 2, "completion_tokens": 4},
    )  # fmt: skip
    error = read_events(run)[-1]["error"]
    assert error.startswith("step 4, row ")
    assert "mine.py:mine raised KeyError: 'gone'" in error
    assert "in mine" in capsys.readouterr().err
    assert (run / "checkpoints" / "checkpoint-3").is_dir()
