"""The commands of serving where servers start, take their time, die and take each other's place; llama.cpp is played."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.test_commands import Shell
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Serving
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def shell(serving: Serving) -> Shell:
    """The command line on the engine that serves."""
    return Shell(serving.root)


@pytest.fixture(scope="module")
def plain(shell: Shell, models: Path) -> Iterator[str]:
    shell("endpoints", "start", str(models / "first.gguf"), "--name", "plain", "--context", "64", "--slots", "2")
    yield "plain"
    shell("endpoints", "stop", "plain", "--yes")


def test_start_tells_what_goes_on_and_ends_with_a_request_that_is_answered(shell: Shell, models: Path) -> None:
    done = shell.full("endpoints", "start", str(models / "first.gguf"), "--name", "told", "--slots", "2")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith("told starting"), said  # what it loads is told too, where that takes a moment
    assert all(line.startswith("told ") for line in said), said
    assert said[-1].startswith("told ready in ")
    assert len(said) == len(set(said))  # nothing twice where nobody looks at a terminal
    answered = subprocess.run(["sh", "-c", f"{done.stdout.strip()} -s"], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(answered.stdout)["choices"][0]["message"]["content"] == "first"
    shell("endpoints", "stop", "told", "--yes")


def test_a_model_whose_server_dies_at_its_start_is_an_error_with_the_cause_and_the_way_to_its_log(
    shell: Shell, models: Path, runtime: FakeRuntime
) -> None:
    runtime.mood("third", exit=1, say="error: unknown model architecture: 'nonsense'")
    try:
        done = shell.full("endpoints", "start", str(models / "third.gguf"), "--name", "dead", "--set", "serve.restart.limit=0", seconds=180)
        assert (done.returncode, done.stdout) == (1, "")
        last = done.stderr.splitlines()[-1]
        assert last.startswith("llmops-tui: dead does not answer: v1: ")
        assert "`llmops-tui endpoints stop dead` gives it up" in last
        assert shell.json("endpoints", "show", "dead")["state"] == "broken"
    finally:
        runtime.mood("third")
        shell("endpoints", "stop", "dead", "--yes")


def test_ctrl_c_leaves_an_endpoint_alone_that_is_still_starting(shell: Shell, models: Path, runtime: FakeRuntime) -> None:
    runtime.mood("second", refuse=True)
    with subprocess.Popen(
        shell.command("endpoints", "start", str(models / "second.gguf"), "--name", "patient"),
        env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as starting:  # fmt: skip
        assert starting.stderr is not None
        assert starting.stderr.readline().startswith("patient starting")
        starting.send_signal(signal.SIGINT)
        _, told = starting.communicate(timeout=30)
    assert starting.returncode == 130
    assert "patient goes on; `llmops-tui endpoints show patient` tells how far it is" in told
    runtime.mood("second")
    wait_for(lambda: shell.json("endpoints", "show", "patient")["state"] == "ready", 60, "patient to be ready")
    shell("endpoints", "stop", "patient", "--yes")


def test_a_swap_waits_until_the_new_version_answers_and_a_rollback_takes_it_back(shell: Shell, plain: str, models: Path) -> None:
    assert "plain ready: v2 100%" in shell("endpoints", "swap", plain, str(models / "second.gguf"))
    assert shell("endpoints", "chat", plain, "hello", "--quiet") == "second a b c\n"
    shown = shell.json("endpoints", "show", plain)
    replica = next(one for one in shown["replicas"] if one["version"] == "v2")
    assert (replica["context"], replica["slots"]) == (64, 2)  # as the version before has it
    assert "plain ready: v1 100%" in shell("endpoints", "rollback", plain)
    assert shell("endpoints", "chat", plain, "hello", "--quiet") == "first a b c\n"


def test_a_swap_that_does_not_come_up_is_an_error_and_the_route_stays(shell: Shell, plain: str, models: Path, runtime: FakeRuntime) -> None:
    runtime.mood("third", exit=1, say="error: no")
    try:
        done = shell.full("endpoints", "swap", plain, str(models / "third.gguf"), "--set", "restart.limit=0", seconds=180)
        assert done.returncode == 1, done.stderr
        assert done.stderr.splitlines()[-1].startswith("llmops-tui: plain: swap given up: ")
        assert done.stderr.splitlines()[-1].endswith("the route is as it was: v1 100%")
    finally:
        runtime.mood("third")
    assert shell("endpoints", "chat", plain, "hello", "--quiet") == "first a b c\n"
    assert shell.json("endpoints", "show", plain)["pending"] is None


def test_scaling_waits_for_every_server(shell: Shell, plain: str) -> None:
    assert "plain ready" in shell("endpoints", "scale", plain, "2", "--version", "v1")
    first = next(one for one in shell.json("endpoints", "show", plain)["versions"] if one["name"] == "v1")
    assert (first["ready"], first["replicas"]) == (2, 2)
    shell("endpoints", "scale", plain, "1", "--version", "v1")


def test_unloaded_it_is_started_by_a_question_that_waits(shell: Shell, plain: str) -> None:
    assert "asleep" in shell("endpoints", "unload", plain)
    assert shell("endpoints", "chat", plain, "hello", "--quiet") == "first a b c\n"


def test_health_and_models_tell_of_it(serving: Serving, shell: Shell, plain: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{serving.port}/v1/models", timeout=10) as answer:
        assert plain in [model["id"] for model in json.load(answer)["data"]]
