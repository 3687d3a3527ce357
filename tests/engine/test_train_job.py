"""The job `train` on a tiny model: what it tells, what it leaves, and that an interruption changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops_tui.data.checkpoints import complete_checkpoints, newest_complete
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.jobs.evaluate import OUT_OF_MEMORY_ADVICE as EVALUATE_ADVICE
from llmops_tui.engine.jobs.evaluate import evaluate
from llmops_tui.engine.jobs.outcome import run_job
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.engine.jobs.train import OUT_OF_MEMORY_ADVICE, train
from llmops_tui.specs.evaluate import EvaluateSpec
from llmops_tui.specs.train import TrainSpec
from tests.engine.tiny_model import read_events, save_model, write_rows, write_run

MakeRun = Callable[..., Path]


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
def make_run(tmp_path: Path, model: Path) -> MakeRun:
    rows = write_rows(tmp_path / "rows.jsonl")

    def make(name: str, **changes: Any) -> Path:
        spec = {
            "model": str(model),
            "dataset": {"path": str(rows), "eval_fraction": 0.25},
            "lora": {"r": 4, "dropout": 0.1},
            "optim": {"learning_rate": 0.01},
            "epochs": 2,
            "micro_batch": 2,
            "accumulation": 2,
            "max_length": 120,
            "sample_tokens": 4,
            "threads": 1,
            **changes,
        }
        return write_run(tmp_path / f"train-{name}-0001", TrainSpec.model_validate(spec).model_dump(), model, rows)

    return make


def run_train(monkeypatch: pytest.MonkeyPatch, run: Path, *, attempt: int = 1, resume: Path | None = None) -> int:
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(run))
    monkeypatch.setenv("LLMOPS_ATTEMPT", str(attempt))
    monkeypatch.delenv("LLMOPS_RESUME_FROM", raising=False)
    if resume:
        monkeypatch.setenv("LLMOPS_RESUME_FROM", str(resume))
    return run_job(train, OUT_OF_MEMORY_ADVICE)


def series(run: Path, name: str, attempt: int | None = None) -> dict[int, float]:
    points = (event for event in read_events(run) if event["type"] == "metric" and attempt in (None, event["attempt"]))
    return {event["step"]: event["values"][name] for event in points if name in event["values"]}


def end_of(run: Path) -> dict[str, Any]:
    last = read_events(run)[-1]
    assert last["type"] == "end"
    return last


def score_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> dict[str, Any]:
    """What the other job says of a result, loaded anew."""
    dataset = {"path": str(tmp_path / "rows.jsonl"), "eval_fraction": 0.25}
    spec = EvaluateSpec(model=str(model), dataset=dataset, max_length=120, threads=1)
    scored = write_run(tmp_path / "evaluate-rows-0002", spec.model_dump(), model, tmp_path / "rows.jsonl")
    monkeypatch.setenv("LLMOPS_RUN_DIR", str(scored))
    assert run_job(evaluate, EVALUATE_ADVICE) == 0
    report: dict[str, Any] = json.loads((scored / "artifacts" / "report.json").read_text())
    return report


def on_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something right after update `step`, as a user would at that moment."""
    from llmops_tui.engine.jobs.callback import RunCallback

    original = RunCallback.on_step_end

    def acting(self: Any, args: Any, state: Any, control: Any, **others: Any) -> Any:
        if state.global_step == step:
            act()
        return original(self, args, state, control, **others)

    monkeypatch.setattr(RunCallback, "on_step_end", acting)


def on_phase(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Do something when a phase begins."""
    original = Reporter.phase

    def acting(self: Reporter, phase: str, **others: Any) -> None:
        original(self, phase, **others)
        if phase == name:
            act()

    monkeypatch.setattr(Reporter, "phase", acting)


def test_a_run_tells_every_step_and_leaves_an_adapter_that_scores_as_it_said(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, tmp_path: Path, model: Path
) -> None:
    run = make_run("whole", evaluate_every=4)
    assert run_train(monkeypatch, run) == 0

    end = end_of(run)
    assert (end["status"], end["error"]) == ("succeeded", "")
    summary = end["summary"]
    assert summary["eval_loss_after"] < summary["eval_loss_before"]
    assert summary["steps"] == 10  # 18 rows, 4 an update, 2 passes
    assert list(series(run, "train/loss")) == list(range(1, 11))
    assert list(series(run, "eval/loss")) == [0, 4, 8, 10]
    for name in (
        "train/grad_norm",
        "train/learning_rate",
        "train/epoch",
        "perf/tokens_per_second",
        "perf/step_seconds",
        "perf/data_wait_fraction",
        "perf/padding_fraction",
        "host/rss_bytes",
    ):
        assert len(series(run, name)) == 10, name
    assert len(set(series(run, "train/adapter_norm").values())) == 10  # it moves
    assert series(run, "train/tokens")[10] == summary["tokens"]

    events = read_events(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    phases = [event["phase"] for event in events if event["type"] == "phase"]
    assert phases[0] == "importing libraries"
    assert phases[-1] == "checking how it speaks"
    samples = [event for event in events if event["type"] == "sample"]
    assert [event["step"] for event in samples] == [0, 0, 10, 10]
    artifact = next(event for event in events if event["type"] == "artifact")
    assert (artifact["artifact"], artifact["format"], artifact["base"], artifact["name"]) == ("model", "adapter", str(model), run.name)

    # The adapter, loaded anew by the other job, scores what the run said of it.
    adapter = run / artifact["path"]
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model)
    assert (adapter / "chat_template.jinja").is_file()
    report = score_again(monkeypatch, tmp_path, adapter)
    assert report["loss"] == pytest.approx(summary["eval_loss_after"], abs=1e-5)
    assert report["perplexity_interval"][0] < report["perplexity"] < report["perplexity_interval"][1]
    assert report["rows"] == 6


@pytest.mark.parametrize("stop_after", [3, 5, 7])
def test_an_interrupted_and_resumed_run_has_the_losses_of_one_never_interrupted(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, stop_after: int
) -> None:
    """5 updates a pass: stopped within the first, between the two, within the second. Dropout makes the RNG matter."""
    whole = make_run("whole")
    assert run_train(monkeypatch, whole) == 0

    parted = make_run("parted")
    with monkeypatch.context() as patch:
        on_step(patch, stop_after, lambda: append_line(parted / "control.jsonl", {"t": time.time(), "command": "stop", "by": 0}))
        assert run_train(monkeypatch, parted) == 0
    assert end_of(parted)["status"] == "stopped"
    checkpoint = newest_complete(RunDir(parted))
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{stop_after}"

    # The attempts are two processes: the old command still stands in the file, and the newcomer was born after it.
    monkeypatch.setattr("llmops_tui.engine.jobs.control.born", time.time)
    assert run_train(monkeypatch, parted, attempt=2, resume=checkpoint) == 0
    assert end_of(parted)["status"] == "succeeded"
    for name in ("train/loss", "train/grad_norm", "train/learning_rate", "train/tokens", "train/epoch"):
        assert list(series(parted, name, attempt=2)) == list(range(stop_after + 1, 11))
        assert series(parted, name) == pytest.approx(series(whole, name), rel=1e-6), name
    assert end_of(parted)["summary"]["eval_loss_after"] == pytest.approx(end_of(whole)["summary"]["eval_loss_after"], rel=1e-6)
    assert end_of(parted)["summary"]["eval_loss_before"] == end_of(whole)["summary"]["eval_loss_before"]


@pytest.mark.parametrize("adaptation", ["full", "dora", "rslora"])
def test_each_way_to_adapt_learns_resumes_exactly_and_leaves_what_it_said(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, tmp_path: Path, adaptation: str
) -> None:
    changes = {"adaptation": adaptation, "max_steps": 5, "checkpoint_every": 3}
    whole = make_run("whole", **changes)
    assert run_train(monkeypatch, whole) == 0
    summary = end_of(whole)["summary"]
    assert summary["eval_loss_after"] < summary["eval_loss_before"]
    artifact = next(event for event in read_events(whole) if event["type"] == "artifact")
    result = whole / artifact["path"]
    assert (result / "chat_template.jinja").is_file()
    if adaptation == "full":
        assert (artifact["format"], summary["model"]) == ("full", "artifacts/model")
        assert json.loads((result / "generation_config.json").read_text())["eos_token_id"] == 258
        assert not (result / "adapter_config.json").exists()
    else:
        config = json.loads((result / "adapter_config.json").read_text())
        assert (artifact["format"], config["use_dora"], config["use_rslora"]) == ("adapter", adaptation == "dora", adaptation == "rslora")
    score = score_again(monkeypatch, tmp_path, result)
    assert score["loss"] == pytest.approx(summary["eval_loss_after"], abs=1e-5)

    again = make_run("again", **changes)
    shutil.copytree(whole / "checkpoints" / "checkpoint-3", again / "checkpoints" / "checkpoint-3")
    assert run_train(monkeypatch, again, attempt=2, resume=again / "checkpoints" / "checkpoint-3") == 0
    assert series(again, "train/loss") == {step: loss for step, loss in series(whole, "train/loss").items() if step > 3}


@pytest.mark.parametrize("steps", [10, 7])
def test_a_run_that_dies_after_its_last_step_is_taken_up_without_a_further_step(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, steps: int
) -> None:
    """At the end of a pass, and in the middle of one."""
    run = make_run("late", max_steps=steps)

    with monkeypatch.context() as patch:
        on_phase(patch, "evaluating after", lambda: append_line(run / "control.jsonl", {"t": time.time(), "command": "stop", "by": 0}))
        assert run_train(monkeypatch, run) == 0
    assert end_of(run)["status"] == "stopped"

    monkeypatch.setattr("llmops_tui.engine.jobs.control.born", time.time)
    assert run_train(monkeypatch, run, attempt=2, resume=newest_complete(RunDir(run))) == 0
    assert end_of(run)["status"] == "succeeded"
    assert series(run, "train/loss", attempt=2) == {}
    summary = end_of(run)["summary"]
    assert summary["steps"] == steps
    assert summary["eval_loss_after"] < summary["eval_loss_before"]


def test_a_stop_in_the_middle_of_an_evaluation_keeps_the_steps_before_it(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("between", evaluate_every=3)
    on_phase(monkeypatch, "evaluating", lambda: append_line(run / "control.jsonl", {"t": time.time(), "command": "stop", "by": 0}))
    assert run_train(monkeypatch, run) == 0
    assert end_of(run)["status"] == "stopped"
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(RunDir(run))] == [3]


def test_a_checkpoint_asked_for_is_written_whole_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("asked")
    on_step(monkeypatch, 2, lambda: append_line(run / "control.jsonl", {"t": time.time(), "command": "checkpoint", "by": 0}))
    assert run_train(monkeypatch, run) == 0
    steps = [event["step"] for event in read_events(run) if event["type"] == "checkpoint"]
    assert steps == [2, 10]
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(RunDir(run))] == steps


def test_only_the_newest_checkpoints_are_kept(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("kept", checkpoint_every=2, keep_checkpoints=2)
    assert run_train(monkeypatch, run) == 0
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(RunDir(run))] == [8, 10]


def test_sigterm_leaves_a_checkpoint_and_an_end(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("term")
    on_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_train(monkeypatch, run) == 0
    assert end_of(run)["status"] == "stopped"
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(RunDir(run))] == [2]


def test_a_stop_before_the_first_step_ends_the_run_at_once(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("early")
    append_line(run / "control.jsonl", {"t": time.time(), "command": "stop", "by": 0})
    assert run_train(monkeypatch, run) == 0
    assert end_of(run)["status"] == "stopped"
    assert series(run, "train/loss") == {}


def test_nonsense_in_the_control_file_is_skipped(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("nonsense", epochs=1)
    (run / "control.jsonl").write_bytes(b'nonsense\n[1]\n{"t":1e12,"command":"dance"}\n{"t":1e12,"command":"stop"')
    assert run_train(monkeypatch, run) == 0
    assert end_of(run)["status"] == "succeeded"
    assert "unknown command 'dance'" in capsys.readouterr().out


def test_packed_rows_keep_the_tokens_of_an_update(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    apart, packed = make_run("apart", epochs=1), make_run("packed", epochs=1, packing=True)
    assert run_train(monkeypatch, apart) == 0
    assert run_train(monkeypatch, packed) == 0
    assert end_of(packed)["summary"]["tokens"] == end_of(apart)["summary"]["tokens"]
    tokens_a_step = [end_of(run)["summary"]["tokens"] / end_of(run)["summary"]["steps"] for run in (apart, packed)]
    assert tokens_a_step[1] == pytest.approx(tokens_a_step[0], rel=0.4)


def test_rows_cut_and_rows_without_an_answer_are_counted(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("cut", max_length=72, epochs=1)
    assert run_train(monkeypatch, run) == 0
    summary = end_of(run)["summary"]
    assert summary["rows_cut"] > 0
    assert summary["rows"] + summary["rows_without_labels"] == 18


def test_a_run_of_which_no_row_is_left_fails_in_one_line(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    run = make_run("nothing", max_length=16)
    assert run_train(monkeypatch, run) == 2
    end = end_of(run)
    assert end["status"] == "failed"
    assert end["error"] == (
        "no row is left to learn from: none has an assistant token within 16 tokens; raise max_length, or check the rows and their format"
    )


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [
        (MemoryError(), "out_of_memory", "lower micro_batch or max_length"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory", "lower micro_batch"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "out_of_memory", "lower micro_batch"),
        (ValueError("a thing\nwith a second line"), "failed", "ValueError: a thing"),
    ],
)
def test_every_way_to_fail_is_told_in_one_line_with_the_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, capfd: pytest.CaptureFixture[str], problem: Exception, status: str, said: str
) -> None:
    run = make_run("fails")

    def fail(*_arguments: object, **_options: object) -> None:
        raise problem

    monkeypatch.setattr("llmops_tui.engine.jobs.sft_trainer.labelled_loss_sum", fail)
    assert run_train(monkeypatch, run) == 1
    end = end_of(run)
    assert end["status"] == status
    assert said in end["error"]
    assert "\n" not in end["error"]
    assert "Traceback" in capfd.readouterr().err


def test_a_loss_that_is_not_a_number_is_shown_and_not_hidden(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    from llmops_tui.engine.jobs import sft_trainer

    plain = sft_trainer.labelled_loss_sum
    monkeypatch.setattr(sft_trainer, "labelled_loss_sum", lambda model, batch: plain(model, batch) * float("nan"))
    run = make_run("nan", max_steps=2)
    run_train(monkeypatch, run)
    assert set(series(run, "train/loss").values()) == {"NaN"}
