"""Programs of the user's under a real engine: what they tell by `track`, and what is read from their own logs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.client import Client
from llmops_tui.errors import LlmopsError
from tests.foreign_files import TENSORBOARD, WANDB, points, trainer_state
from tests.running_engine import kill_engine, make_home
from tests.waiting import wait_for

GROWS = """
import os, sys, time
content, done = open("source", "rb").read(), 0
with open("events.out.tfevents.1000.box.1.0", "wb", buffering=0) as file:
    for end in (100, 300, 320, len(content)):
        file.write(content[done:end])
        done = end
        while end < len(content) and not os.path.exists(f"go-{end}"):
            time.sleep(0.02)
"""
TRAINS = """
import os, sys, time
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from llmops_tui.track_transformers import RunCallback
from tests.engine.tiny_model import make_model
from llmops_tui import track

class Rows(Dataset):
    def __len__(self): return 16
    def __getitem__(self, i):
        ids = torch.arange(i, i + 8)
        return {"input_ids": ids, "labels": ids}

class Waits(TrainerCallback):
    def on_step_end(self, args, state, control, **others):
        while state.global_step == 3 and not os.path.exists(os.environ["LLMOPS_RUN_DIR"] + "/control.jsonl"):
            time.sleep(0.02)

arguments = TrainingArguments(
    output_dir=sys.argv[1], max_steps=6, per_device_train_batch_size=2, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
    disable_tqdm=True, eval_strategy="steps", eval_steps=3,
)
trainer = Trainer(make_model(), arguments, train_dataset=Rows(), eval_dataset=Rows(), callbacks=[Waits(), RunCallback()])
trainer.train()
trainer.save_model(sys.argv[1] + "/final")
track.model(sys.argv[1] + "/final", name="tiny")
"""
RESUMES = """
import os, sys
from llmops_tui import track
track.phase("train", total=4)
before = track.resume_from()
step = int((before / "step").read_text()) if before else 0
while step < 4:
    step += 1
    track.metric(step, loss=1.0 / step)
    directory = f"out/step-{step}"
    os.makedirs(directory, exist_ok=True)
    open(directory + "/step", "w").write(str(step))
    track.checkpoint(directory, step)
    if before is None and step == 3:
        os.truncate(directory + "/step", 0)  # the newest one is damaged
        sys.exit(3)
"""


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = make_home(tmp_path_factory.mktemp("home"))
    with home.config.open("a") as file:  # its last section is the engine's
        file.write("cpu_slots = 2\n")
    client = Client(home)
    try:
        client.ensure_engine()
        yield client
    finally:
        kill_engine(home)


def submit(client: Client, work: Path, program: str, *arguments: str, **others: object) -> str:
    spec = {"kind": "command", "argv": [sys.executable, "-c", program, *arguments], "resources": {"gpus": 0}, **others}
    return str(client.submit(spec, str(work))["id"])


def ended(client: Client, run: str) -> str:
    wait_for(lambda: client.run(run)["ended_at"] is not None, what=f"{run} to end", seconds=60)
    return str(client.run(run)["state"])


def test_a_log_that_grows_is_stored_exactly_once_though_the_engine_is_killed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(TENSORBOARD)
    run = submit(client, tmp_path, GROWS)
    directory = client.home.runs / run
    for end in (100, 300):
        wait_for(lambda: (tmp_path / "events.out.tfevents.1000.box.1.0").exists(), what="the program to write")
        wait_for(lambda e=end: e == 100 or points(directory / "events.jsonl") != [], what="the log to be read")  # type: ignore[misc]
        kill_engine(client.home, signal.SIGKILL)
        (tmp_path / f"go-{end}").touch()
        client.ensure_engine()
    (tmp_path / "go-320").touch()
    assert ended(client, run) == "succeeded"
    stored = client.sql(f"SELECT step, metric, value FROM metrics_long WHERE run = '{run}' AND metric <> 'train/grad_norm'", 100)["rows"]
    assert sorted((step, name) for step, name, _ in stored) == sorted(
        [(10 * n, name) for n in range(1, 5) for name in ("train/loss", "train/learning_rate")] + [(50, "eval/loss")]
    )


def test_a_trainer_with_our_callback_shows_progress_saves_when_asked_and_registers_its_model(client: Client, tmp_path: Path) -> None:
    run = submit(client, tmp_path, TRAINS, str(tmp_path / "out"), env={"PYTHONPATH": str(ROOT)})
    wait_for(lambda: client.run(run)["progress"] is not None, what="the training to begin", seconds=60)
    client.control(run, "checkpoint")
    assert ended(client, run) == "succeeded", client.log(run).data
    detail = client.run(run)
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss"} <= set(detail["metrics"])
    assert detail["progress"] is not None
    assert (detail["progress"]["done"], detail["progress"]["total"]) == (6, 6)
    assert [curve["total_points"] for curve in client.series(run, ["train/loss"], 100)] == [6]
    (saved,) = detail["checkpoints"]
    assert saved["step"] <= 3
    assert (tmp_path / "out" / f"checkpoint-{saved['step']}" / "model.safetensors").exists()
    assert [model["run"] for model in client.models() if model["name"] == "tiny"] == [run]


def test_two_processes_of_accelerate_launch_are_one_run_stopped_and_killed_as_one(client: Client, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINS)
    # Without --multi_gpu it would start one process, and ask for mpirun to start more; the processes are told to use the CPU.
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--main_process_port", "0"]
    argv = [sys.executable, "-m", "accelerate.commands.launch", *launch, "train.py", str(tmp_path / "out")]
    spec = {
        "kind": "command",
        "argv": argv,
        "resources": {"gpus": 0},
        "env": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
    }
    run, killed = (str(client.submit({**spec, "after_any": after}, str(tmp_path))["id"]) for after in ((), ()))

    def steps(of: str) -> list[int]:
        told = points(client.home.runs / of / "events.jsonl")
        return [step for step, name, _ in told if name == "train/loss"]

    for each in (run, killed):
        wait_for(lambda of=each: steps(of)[:2] == [1, 2], 60, "each step to be told once, by the first of them")  # type: ignore[misc]
    assert len(ranks_of(client, killed)) == 2
    os.kill(ranks_of(client, killed)[1], signal.SIGKILL)
    assert ended(client, killed) == "failed"
    client.stop_run(run)
    assert ended(client, run) == "cancelled"
    assert ranks_of(client, run) == ranks_of(client, killed) == []


def ranks_of(client: Client, run: str) -> list[int]:
    """Processes that train, by their number among them."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            said = dict(part.partition("=")[::2] for part in (entry / "environ").read_text().split("\0"))
            if said.get("LLMOPS_RUN_DIR") == str(client.home.runs / run) and "LOCAL_RANK" in said:
                found[int(said["RANK"])] = int(entry.name)
        except (OSError, ValueError):
            continue
    return [pid for _, pid in sorted(found.items())]


def test_a_retry_goes_on_from_the_newest_checkpoint_that_is_whole(client: Client, tmp_path: Path) -> None:
    run = submit(client, tmp_path, RESUMES, retries=1, env={"PYTHONPATH": str(ROOT)})
    assert ended(client, run) == "succeeded", client.log(run).data
    assert b"checkpoint-3 is not whole any more" in client.log(run).data
    steps = client.sql(f"SELECT attempt, step FROM metrics_long WHERE run = '{run}' AND metric = 'train/loss' ORDER BY ALL", 100)["rows"]
    assert [tuple(row) for row in steps] == [(1, 1), (1, 2), (1, 3), (2, 3), (2, 4)]


def test_logs_that_are_named_are_read_and_wrong_words_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"{}")
    program = f"open('trainer_state.json', 'wb').write({trainer_state(3)!r}); open('run-x.wandb', 'wb').write({WANDB!r})"
    run = submit(client, tmp_path, program, logs=["trainer_state.json"])
    silent = submit(client, tmp_path, program, logs="none", after_ok=[run])
    assert ended(client, run) == ended(client, silent) == "succeeded"
    assert "nested/a" not in client.run(run)["metrics"]
    assert client.run(run)["latest"]["train/loss"] == pytest.approx(4 / 3)
    assert client.run(silent)["metrics"] == []
    with pytest.raises(LlmopsError, match="logs"):
        submit(client, tmp_path, program, logs=[""])


def test_two_runs_in_one_directory_keep_their_logs_apart(client: Client, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(TENSORBOARD)
    program = """
import os, sys, time
with open(f"events.out.tfevents.1000.box.{sys.argv[1]}", "wb", buffering=0) as file:
    file.write(open("source", "rb").read()[:int(sys.argv[2])])
    while not os.path.exists("go"):
        time.sleep(0.02)
"""
    runs = [submit(client, tmp_path, program, name, size, name=name) for name, size in (("a", str(len(TENSORBOARD))), ("b", "508"))]
    wait_for(lambda: all(client.run(run)["latest"] for run in runs), what="both logs to be read", seconds=60)
    (tmp_path / "go").touch()
    assert [ended(client, run) for run in runs] == ["succeeded", "succeeded"]
    assert "eval/loss" in client.run(runs[0])["metrics"]
    assert client.run(runs[1])["metrics"] == ["train/learning_rate", "train/loss"]
