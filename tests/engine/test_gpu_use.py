"""The whole engine on a box with two (played) GPUs: energy and money of runs, idle holders, memory without a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.client import Client
from llmops_tui.data.rebuild import rebuild
from llmops_tui.paths import Home
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.settings import EngineSettings
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.waiting import wait_for

_JOB = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""
_SETTINGS = """
[engine]
sample_seconds = 0.2
[money]
currency = "CHF"
per_kwh = 0.30
per_gpu_hour = 3.60
"""


class Box:
    """A state directory, its engine, which may be killed and started again, and jobs that end when told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nvml = FakeNvml(compile_library(path / "library"), path / "gpus.state")
        self.home = Home(path / "home", explicit=True)
        self.home.root.mkdir()
        # The box's own locks are shared with whatever else runs here: other tests with the same GPUs, real engines.
        self.home.config.write_text(f'{_SETTINGS}[gpus]\nlock_directory = "{self.home.root / "locks"}"\n')
        self.client = Client(self.home)
        self.engine: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "llmops_tui.engine.daemon", "--home", str(self.home.root)]
        self.engine = engine = subprocess.Popen(command, env=self.nvml.environment())
        wait_for(lambda: self.client.answers() or engine.poll() is not None, 30, "the engine answers")
        assert engine.poll() is None, "the engine did not start"

    def end_engine(self, number: signal.Signals) -> None:
        assert self.engine
        self.engine.send_signal(number)
        self.engine.wait(30)

    def submit(self, name: str, **resources: Any) -> str:
        argv = [sys.executable, "-c", _JOB, str(self.path / name)]
        run = self.client.submit({"kind": "command", "name": name, "argv": argv, "resources": {"gpus": 1, **resources}}, "/")["id"]
        wait_for(lambda: self.client.run(run)["state"] == "running", what=f"{run} runs")
        return run

    def draw(self, gpu: int, joules: float) -> None:
        """Let a GPU have drawn so much since the driver's load, and wait until the engine has seen it."""
        self.nvml.set_gpu(gpu, energy=int(joules * 1000))
        wait_for(lambda: self.gpu(gpu)["energy_joules"] == joules)

    def gpu(self, index: int) -> GpuSample:
        return self.client.gpus()[index]

    def energy(self, run: str) -> float | None:
        return self.client.run(run)["energy_joules"]

    def finish(self, run: str) -> None:
        (self.path / run.split("-")[1]).touch()
        wait_for(lambda: self.client.run(run)["ended_at"], what=f"{run} ends")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    box.start()
    try:
        yield box
    finally:
        for name in ("one", "two"):
            (tmp_path / name).touch()
        assert box.engine
        if box.engine.poll() is not None:
            box.start()
        wait_for(lambda: not box.client.status()["running"], 30, "the jobs end")
        box.end_engine(signal.SIGTERM)


def test_a_run_is_charged_what_its_gpu_draws_while_it_holds_it(box: Box) -> None:
    box.draw(0, 7050)  # before: nobody's
    run = box.submit("one")
    assert box.gpu(0)["held_by"] == [run]
    wait_for(lambda: box.energy(run) == 0.0)
    box.draw(0, 43_050)  # 36 kJ = 0.01 kWh
    box.draw(1, 90_000)  # another GPU's
    assert wait_for(lambda: box.energy(run)) == 36_000.0
    box.finish(run)
    detail = box.client.run(run)
    assert detail["energy_joules"] == 36_000.0
    hours = detail["gpu_seconds"] / 3600
    assert detail["gpu_seconds"] == pytest.approx(detail["ended_at"] - detail["started_at"], abs=2)  # type: ignore[operator]
    assert detail["cost"] == pytest.approx(0.01 * 0.30 + hours * 3.60)
    assert box.client.status()["currency"] == "CHF"
    box.draw(0, 60_000)  # after: nobody's
    assert box.energy(run) == 36_000.0
    [row] = box.client.sql("SELECT gpu_seconds, energy_joules FROM runs")["rows"]
    assert row == [detail["gpu_seconds"], 36_000.0]


def test_an_engine_killed_in_the_middle_loses_no_joule_and_a_rebuild_none_either(box: Box) -> None:
    run = box.submit("one")
    wait_for(lambda: box.energy(run) is not None)
    box.draw(0, 8_000)
    before = wait_for(lambda: box.energy(run))
    assert before == 1_000.0
    box.end_engine(signal.SIGKILL)
    box.nvml.set_gpu(0, energy=20_000_000)  # nobody looks, the counter does
    box.start()
    wait_for(lambda: box.energy(run) == 13_000.0, what="the gap is charged")
    box.draw(0, 21_000)
    wait_for(lambda: box.energy(run) == 14_000.0)
    box.finish(run)
    ended = box.client.run(run)
    assert ended["energy_joules"] == 14_000.0
    box.end_engine(signal.SIGTERM)
    rebuild(box.home, EngineSettings())
    box.start()
    again = box.client.run(run)
    assert (again["energy_joules"], again["gpu_seconds"], again["cost"]) == (ended["energy_joules"], ended["gpu_seconds"], ended["cost"])
    [row] = box.client.sql("SELECT gpu_seconds, energy_joules FROM runs")["rows"]
    assert row == [ended["gpu_seconds"], ended["energy_joules"]]


def test_a_run_that_ended_while_no_engine_looked_pays_until_its_end(box: Box) -> None:
    run = box.submit("one")
    wait_for(lambda: box.energy(run) is not None)
    box.draw(0, 8_000)
    attempt = box.home.runs / run / "attempt-1"
    wait_for((attempt / "energy.json").exists)
    wait_for(lambda: json.loads((attempt / "energy.json").read_bytes())["joules"] == 1_000.0, what="it is noted")
    box.end_engine(signal.SIGKILL)
    (box.path / "one").touch()
    exit_file = attempt / "exit.json"
    wait_for(exit_file.exists, what="the shim notes the end")
    box.nvml.set_gpu(0, energy=9_000_000)
    box.start()
    wait_for(lambda: box.client.run(run)["state"] == "succeeded")
    ended = box.client.run(run)
    told = json.loads(exit_file.read_bytes())["t"]
    assert ended["ended_at"] == told
    joules = ended["energy_joules"]
    assert joules is not None
    assert 1_000 <= joules <= 2_000  # a part of the last 1,000: what was drawn after its end is not its own
    assert joules != 2_000
    [end] = [entry for entry in ended["journal"] if entry["state"] == "succeeded"]
    assert end["data"]["energy_joules"] == joules


def test_a_counter_that_begins_again_counts_on(box: Box) -> None:
    run = box.submit("one")
    wait_for(lambda: box.energy(run) is not None)
    box.draw(0, 8_000)
    wait_for(lambda: box.energy(run) == 1_000.0)
    box.draw(0, 300)  # the driver was loaded again
    wait_for(lambda: box.energy(run) == 1_300.0)
    box.draw(0, 500)
    wait_for(lambda: box.energy(run) == 1_500.0)


def test_a_lost_gpu_costs_nothing_until_it_is_back(box: Box) -> None:
    run = box.submit("one")
    wait_for(lambda: box.energy(run) is not None)
    box.draw(0, 8_000)
    wait_for(lambda: box.energy(run) == 1_000.0)
    box.nvml.set_gpu(0, lost=1)
    wait_for(lambda: box.gpu(0)["health"] == "lost")
    assert box.energy(run) == 1_000.0
    box.nvml.set_gpu(0, lost=None, energy=50_000)
    wait_for(lambda: box.energy(run) == 1_050.0)


def test_two_runs_on_one_gpu_share_its_energy_by_the_memory_they_were_given(box: Box) -> None:
    small, large = box.submit("one", gpu_memory_bytes=5 * GIB), box.submit("two", gpu_memory_bytes=15 * GIB)
    assert box.gpu(0)["held_by"] == [small, large]
    wait_for(lambda: box.energy(large) is not None)
    before = (box.energy(small), box.energy(large))
    box.draw(0, 11_000)
    wait_for(lambda: (box.energy(small), box.energy(large)) != before)
    assert (box.energy(small), box.energy(large)) == (pytest.approx(1_000), pytest.approx(3_000))


def test_without_a_counter_the_power_is_added_up_and_without_both_energy_and_cost_are_unknown(box: Box) -> None:
    box.nvml.set_gpu(0, energy=None, power=360_000_000)  # 360 kW for a test that has little time
    box.nvml.set_gpu(1, energy=None, power=None)
    wait_for(lambda: box.gpu(0)["energy_joules"] is None and box.gpu(1)["power_watts"] is None)
    wait_for(lambda: box.gpu(0)["power_watts"] == 360_000.0)
    powered, dark = box.submit("one"), box.submit("two")
    joules = wait_for(lambda: box.energy(powered))
    assert joules > 0
    box.finish(powered)
    box.finish(dark)
    ended, unknown = box.client.run(powered), box.client.run(dark)
    assert ended["energy_joules"] == pytest.approx(360_000 * ended["gpu_seconds"], abs=360_000)  # to within a second
    assert (unknown["energy_joules"], unknown["cost"]) == (None, None)
    assert unknown["gpu_seconds"] > 0


def test_a_gpu_that_is_held_and_not_used_says_by_whom_and_for_how_long(box: Box) -> None:
    box.nvml.set_gpu(0, utilisation=3)
    run = box.submit("one")
    gpu = wait_for(lambda: (gpu := box.gpu(0))["idle_seconds"] and gpu)
    [holder] = gpu["holders"]
    assert (holder["run"], holder["owner"]) == (run, box.client.run(run)["owner"])
    assert gpu["held_since"] == holder["since"]
    assert box.gpu(1)["idle_seconds"] is None  # nobody holds it: it is free, not idle
    for_long = box.gpu(0)["idle_seconds"]
    assert for_long is not None
    box.end_engine(signal.SIGTERM)
    box.start()  # it remembers by the samples of the one before
    again = wait_for(lambda: box.gpu(0)["idle_seconds"])
    assert again >= for_long
    box.nvml.set_gpu(0, utilisation=60)
    wait_for(lambda: box.gpu(0)["idle_seconds"] == 0.0)
    box.finish(run)
    free = box.gpu(0)
    assert (free["holders"], free["held_since"], free["idle_seconds"]) == ([], None, None)


def test_memory_without_a_process_is_named_and_told_once(box: Box) -> None:
    with subprocess.Popen(["sleep", "300"]) as process:
        try:
            box.nvml.set_gpu(0, memory_used=3 * GIB, processes=f"{process.pid}:{3 * GIB}")
            box.nvml.set_gpu(1, memory_used=3 * GIB)
            wait_for(lambda: box.gpu(1)["hidden_bytes"] == 3 * GIB)
            assert box.gpu(0)["hidden_bytes"] == 0
            events = wait_for(lambda: hidden_events(box))
        finally:
            process.kill()
    assert [(event["data"]["gpu"], event["data"]["bytes"]) for event in events] == [(1, 3 * GIB)]
    assert "3.0 GiB" in events[0]["data"]["reason"]
    box.nvml.set_gpu(0, memory_used=0, processes="")
    wait_for(lambda: box.gpu(0)["memory_used_bytes"] == 0)  # else both are as full, and the run may be placed on either
    run = box.submit("one", gpu_memory_bytes=GIB)  # it cannot be of one who came later
    gpu = box.gpu(1)
    assert (gpu["held_by"], gpu["hidden_bytes"]) == ([run], 3 * GIB)
    assert len(hidden_events(box)) == 1


def hidden_events(box: Box) -> list[Any]:
    return [event for event in box.client.events()["events"] if event["type"] == "gpu.hidden_memory"]


def test_memory_of_a_holder_that_is_not_in_sight_is_no_riddle(box: Box) -> None:
    run = box.submit("one")
    box.nvml.set_gpu(0, memory_used=3 * GIB)  # as in a container, where the driver lists no processes
    wait_for(lambda: box.gpu(0)["memory_used_bytes"] == 3 * GIB)
    assert (box.gpu(0)["held_by"], box.gpu(0)["hidden_bytes"]) == ([run], None)


def test_what_was_used_is_shown_to_people(box: Box) -> None:
    run = box.submit("one")
    wait_for(lambda: box.energy(run) == 0.0)
    box.draw(0, 43_000)
    wait_for(lambda: box.energy(run) == 36_000.0)
    box.finish(run)
    assert "36" in shown(box, "runs", "show", run, "--json")
    text = shown(box, "runs", "show", run)
    [line] = [line for line in text.splitlines() if line.startswith("used ")]
    assert "GPU-s, 10 Wh (" in line
    assert line.endswith(" CHF")
    head, row = shown(box, "runs", "list").splitlines()
    assert "ENERGY" in head
    assert "COST" in head
    assert "10 Wh" in row
    box.nvml.set_gpu(1, memory_used=3 * GIB)
    wait_for(lambda: box.gpu(1)["hidden_bytes"])
    assert "3.0 GiB in use without a process in sight" in shown(box, "gpus")


def shown(box: Box, *words: str) -> str:
    command = [sys.executable, "-m", "llmops_tui", "--home", str(box.home.root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
