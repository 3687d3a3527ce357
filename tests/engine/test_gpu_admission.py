"""The whole engine on a box with two (played) GPUs: runs get them by UUID, wait for them by name, and outlive their loss."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.paths import Home
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.waiting import wait_for

# Prints the GPUs it was given and lives until the file named on its command line is there.
_JOB = """
import os, sys, time
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""
_ONE_GPU = {"gpus": 1}


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    return FakeNvml(compile_library(tmp_path / "library"), tmp_path / "gpus.state")


@pytest.fixture
def client(tmp_path: Path, nvml: FakeNvml) -> Iterator[Client]:
    home = Home(tmp_path / "home", explicit=True)
    home.root.mkdir()
    home.config.write_text("[engine]\nsample_seconds = 0.2\n")
    engine = subprocess.Popen([sys.executable, "-m", "llmops_tui.engine.daemon", "--home", str(home.root)], env=nvml.environment())
    client = Client(home)
    try:
        wait_for(lambda: client.answers() or engine.poll() is not None, 30, "the engine answers")
        assert engine.poll() is None, "the engine did not start"
        yield client
    finally:
        for path in ("one", "two", "three"):
            (tmp_path / path).touch()
        wait_for(lambda: engine.poll() is not None or not client.status()["running"], 30, "the jobs end")
        engine.terminate()
        engine.wait(30)


@pytest.fixture
def submit(client: Client, tmp_path: Path) -> Callable[..., str]:
    def send(name: str, **resources: Any) -> str:
        argv = [sys.executable, "-c", _JOB, str(tmp_path / name)]
        return client.submit({"kind": "command", "name": name, "argv": argv, "resources": {**_ONE_GPU, **resources}}, str(tmp_path))["id"]

    return send


def gpus_of(client: Client, run_id: str) -> str:
    """The UUIDs the job itself saw."""
    return wait_for(lambda: client.log(run_id).data.decode().strip(), what=f"output of {run_id}")


def test_runs_get_gpus_by_uuid_and_the_next_one_waits_for_them_by_name(client: Client, submit: Callable[..., str], tmp_path: Path) -> None:
    first, second = submit("one"), submit("two")
    assert {gpus_of(client, first), gpus_of(client, second)} == {"GPU-00000000-test", "GPU-00000001-test"}
    third = submit("three")
    reason = wait_for(lambda: client.run(third)["reason"])
    assert f"held by {first}" in reason
    assert f"held by {second}" in reason
    assert sorted(holder for gpu in client.gpus() for holder in gpu["held_by"]) == [first, second]
    (tmp_path / "two").touch()
    assert gpus_of(client, third) == gpus_of(client, second)


def test_a_foreign_process_on_a_gpu_sends_the_run_to_the_other(client: Client, submit: Callable[..., str], nvml: FakeNvml) -> None:
    nvml.set_gpu(0, memory_used=3 * GIB)
    wait_for(lambda: client.gpus()[0]["memory_used_bytes"] == 3 * GIB)
    assert gpus_of(client, submit("one")) == "GPU-00000001-test"
    waiting = submit("two")
    reason = wait_for(lambda: client.run(waiting)["reason"])
    assert "GPU 0 3.0 GiB in use" in reason


def test_two_runs_share_a_gpu_by_prediction(client: Client, submit: Callable[..., str]) -> None:
    first, second = submit("one", gpu_memory_bytes=10 * GIB), submit("two", gpu_memory_bytes=10 * GIB)
    third = submit("three", gpu_memory_bytes=10 * GIB)
    seen = [gpus_of(client, run) for run in (first, second, third)]
    assert seen == ["GPU-00000000-test", "GPU-00000000-test", "GPU-00000001-test"]


def test_a_gpu_lost_under_a_run_is_told_and_stops_neither_the_engine_nor_other_runs(
    client: Client, submit: Callable[..., str], nvml: FakeNvml
) -> None:
    run = submit("one")
    lost = int(gpus_of(client, run)[-6])
    nvml.set_gpu(lost, lost=1, xid="1:79")
    wait_for(lambda: client.gpus()[lost]["health"] == "lost")
    told = wait_for(lambda: {event["type"] for event in client.events()["events"]} & {"gpu.lost"} or None)
    assert told == {"gpu.lost"}
    assert client.run(run)["state"] == "running"
    assert gpus_of(client, submit("two")) != gpus_of(client, run)


def test_the_capsule_names_driver_and_gpu(client: Client, submit: Callable[..., str]) -> None:
    run = submit("one")
    uuid = gpus_of(client, run)
    capsule = wait_for(lambda: client.run(run)["capsule"])
    assert [gpu["uuid"] for gpu in capsule["gpus"]] == [uuid]
    assert capsule["driver"] == {"nvidia": "580.95.05", "cuda": "13.0"}
