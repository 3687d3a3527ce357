"""`llmops-tui demo` from nothing: the real model, real data, a real (short) fine-tune."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.test_commands import Shell
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    pytest.importorskip("torch")
    shell = Shell(tmp_path_factory.mktemp("home"))
    yield shell
    if shell.full("engine", "status").returncode == 0:
        for run in shell.json("status")["running"]:
            shell("runs", "stop", run["id"], "--now")
        wait_for(lambda: not shell.json("status")["running"], 60)
        shell("engine", "stop")


def start(shell: Shell, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        shell.command("demo", *words), env=shell.environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )  # fmt: skip


def test_the_demo_fine_tunes_from_nothing_and_a_second_one_reuses_everything(shell: Shell) -> None:
    first = start(shell, "--steps", "2")
    output, error = first.communicate(timeout=800)
    assert first.returncode == 0, error
    assert "converting the model" in error
    assert "held-out loss" in output
    assert "perplexity" in output
    run = shell.json("runs", "list", "--kind", "train")["runs"][0]
    assert run["state"] == "succeeded"
    assert {"train/loss", "eval/loss", "perf/tokens_per_second"} <= set(shell.json("runs", "metrics", run["id"]))
    directory = Path(shell.json("runs", "show", run["id"])["directory"])
    assert (directory / "artifacts" / "adapter" / "adapter_model.safetensors").stat().st_size > 100_000

    second = start(shell, "--steps", "50")
    wait_for(lambda: shell.json("runs", "list", "--state", "running", "--kind", "train")["total"] == 1, 60)
    third = start(shell)
    assert third.stderr is not None
    joined = next(line for line in third.stderr if "joining" in line)
    again = shell.json("runs", "list", "--state", "running")["runs"][0]["id"]
    assert again in joined
    assert shell.json("runs", "list")["total"] == 2
    third.send_signal(signal.SIGINT)
    _, said = third.communicate(timeout=30)
    assert third.returncode == 130
    assert "goes on" in said
    assert shell.state(again) == "running"
    shell("runs", "stop", again, "--now")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 130
    for done_once in ("fetching", "converting", "registering"):
        assert done_once not in said


def test_the_demo_s_evaluation_can_be_repeated_by_the_command_it_names(shell: Shell) -> None:
    """The adapter scores the same rows to the same loss, in a run of its own."""
    trained = next(run for run in shell.json("runs", "list", "--kind", "train")["runs"] if run["state"] == "succeeded")
    told = [json.loads(line) for line in shell("runs", "watch", trained["id"], "--json").splitlines()]
    after = next(event for event in told if event["type"] == "end")["summary"]["eval_loss_after"]
    done = shell.full(
        "run", "evaluate", "--set", "model=smollm2-fiqa", "--set", "dataset.path=fiqa", "--set", "dataset.eval_limit=32",
        "--set", "max_length=256", "--follow", "--json", seconds=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    scored = [event["values"]["eval/loss"] for event in events if event["type"] == "metric" and "eval/loss" in event["values"]]
    assert abs(scored[-1] - after) < 0.02
