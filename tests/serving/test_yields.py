"""Train and serve on one (played) GPU: an idle endpoint unloads for a run that waits for its memory, and comes back after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Serving, serving_engine
from tests.waiting import wait_for

_JOB = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]):\n    time.sleep(0.05)\n"


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    return FakeNvml(compile_library(tmp_path / "library"), tmp_path / "gpus.state", gpus=1)


@pytest.fixture
def box(tmp_path: Path, nvml: FakeNvml) -> Iterator[Serving]:
    runtime = FakeRuntime(tmp_path / "played", gpu=True)
    locks = f'[gpus]\nlock_directory = "{tmp_path / "locks"}"\n'
    with serving_engine(tmp_path / "state", runtime.place, locks, nvml.environment()) as running:
        yield running
        (tmp_path / "done").touch()


def train(box: Serving, tmp_path: Path) -> str:
    argv = [sys.executable, "-c", _JOB, str(tmp_path / "done")]
    spec = {"kind": "command", "name": "training", "argv": argv, "resources": {"gpus": 1}}
    return box.client.submit(spec, str(tmp_path))["id"]


@pytest.mark.slow
def test_an_idle_endpoint_makes_room_for_a_run_and_comes_back_after_it(box: Serving, nvml: FakeNvml, models: Path, tmp_path: Path) -> None:
    found = box.start("shared", models / "first.gguf", yields="always")
    server = found["replicas"][0]["run"]
    assert box.client.run(server)["gpus"] == ["GPU-00000000-test"]
    nvml.set_gpu(0, memory_used=GIB // 2)
    run = train(box, tmp_path)
    assert f"made room for {run}" in box.until("shared", "asleep", seconds=90)["reason"]
    wait_for(lambda: not box.living("shared"), 60)
    # The driver still counts what the server had: the run is not started on memory that is not there.
    wait_for(lambda: "still waits" in box.client.serving.endpoint("shared")["reason"], 60, "the missing memory to be told of")
    assert box.client.run(run)["state"] == "queued"
    nvml.set_gpu(0, memory_used=0)
    wait_for(lambda: box.client.run(run)["state"] == "running", 60)
    assert box.client.serving.endpoint("shared")["state"] == "asleep"
    (tmp_path / "done").touch()
    assert box.until("shared", "ready", seconds=90)["replicas"]
    assert box.says("shared") == "first"


@pytest.mark.slow
def test_a_pinned_endpoint_and_one_that_never_yields_stay(box: Serving, models: Path, tmp_path: Path) -> None:
    box.start("pinned", models / "first.gguf", pinned=True, yields="always")
    run = train(box, tmp_path)
    reason = wait_for(lambda: box.client.run(run)["reason"], 60)
    assert "serve-pinned-0001" in reason
    assert box.client.serving.endpoint("pinned")["state"] == "ready"
    assert box.says("pinned") == "first"
