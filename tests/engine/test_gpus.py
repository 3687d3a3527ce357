"""The real GpuMonitor over the real pynvml, against a compiled library that plays NVML."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.engine.gpu_processes import run_of_process
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.waiting import wait_for

SETTINGS = {"engine": {"sample_seconds": 0.2}, "gpus": {"call_timeout_seconds": 1.5}}


class Watcher:
    """The monitor in a process of its own, asked by words."""

    def __init__(self, environment: dict[str, str], settings: dict[str, Any], runs: dict[str, str], home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.nvml.watcher", json.dumps(settings), json.dumps(runs), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.events: list[dict[str, Any]] = []

    def ask(self, word: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def gpus(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.ask("snapshot")
        return answer

    def wait_ready(self) -> None:
        wait_for(lambda: self.ask("ready"), what="the monitor is ready")

    def wait_for_gpu(self, index: int, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            gpus = self.gpus()
            return gpus[index] if len(gpus) > index and condition(gpus[index]) else None

        return wait_for(look, what=f"GPU {index}")

    def wait_for_event(self, event_type: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            self.events += self.ask("events")
            return next((event for event in self.events if event["type"] == event_type), None)

        return wait_for(look, what=event_type)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> FakeNvml:
    return FakeNvml(library, tmp_path / "gpus.state")


Start = Callable[..., Watcher]


@pytest.fixture
def start(nvml: FakeNvml, tmp_path: Path) -> Iterator[Start]:
    watchers: list[Watcher] = []

    def begin(environment: dict[str, str] | None = None, runs: dict[str, str] | None = None, **gpus: Any) -> Watcher:
        settings = {**SETTINGS, "gpus": {**SETTINGS["gpus"], **gpus}}
        watchers.append(Watcher(environment or nvml.environment(), settings, runs or {}, tmp_path / "home"))
        return watchers[-1]

    yield begin
    for watcher in watchers:
        watcher.close()


@pytest.fixture
def sleeper() -> Iterator[Callable[..., int]]:
    """Starts processes that do nothing, for the GPUs to list."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(**variables: str) -> int:
        started.append(subprocess.Popen(["sleep", "300"], env={**os.environ, **variables}))
        pid = started[-1].pid
        wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"), what="exec of sleep")
        return pid

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_two_gpus_are_read_in_the_units_a_person_expects(nvml: FakeNvml, start: Start) -> None:
    nvml.set_gpu(1, utilisation=83, memory_used=5 * GIB, power=301_500, temperature=71, clock_sm=1980, clock_memory=9501)
    watcher = start()
    watcher.wait_ready()
    first, second = watcher.gpus()
    assert (first["index"], first["uuid"], first["health"], first["reason"]) == (0, "GPU-00000000-test", "ok", "")
    assert second["uuid"] == "GPU-00000001-test"
    assert second["name"] == "NVIDIA Test GPU"
    assert second["utilisation"] == 0.83
    assert second["memory_used_bytes"] == 5 * GIB
    assert second["memory_total_bytes"] == 24 * GIB
    assert (second["power_watts"], second["power_limit_watts"]) == (301.5, 450.0)
    assert second["temperature_celsius"] == 71.0
    assert (second["sm_clock_mhz"], second["memory_clock_mhz"]) == (1980, 9501)
    assert (second["pcie_rx_bytes_per_second"], second["pcie_tx_bytes_per_second"]) == (1_024_000.0, 512_000.0)
    assert (second["pcie_generation"], second["pcie_width"]) == (4, 16)
    assert (second["ecc_uncorrected"], second["energy_joules"]) == (0, 7000.0)
    assert second["throttle_reasons"] == []  # idle is no throttling
    assert watcher.ask("driver") == {"nvidia": "580.95.05", "cuda": "13.0"}
    assert watcher.ask("warnings") == []


def test_a_change_is_seen_at_the_next_tick(nvml: FakeNvml, start: Start) -> None:
    watcher = start()
    watcher.wait_for_gpu(0, lambda gpu: gpu["utilisation"] == 0)
    nvml.set_gpu(0, utilisation=100)
    watcher.wait_for_gpu(0, lambda gpu: gpu["utilisation"] == 1.0)


def test_a_reading_that_is_not_supported_is_unknown_and_not_zero(nvml: FakeNvml, start: Start) -> None:
    for key in ("utilisation", "memory_total", "power", "power_limit", "temperature", "clock_sm", "clock_memory", "throttle"):
        nvml.set_gpu(0, **{key: None})
    for key in ("processes", "graphics", "pcie_rx", "pcie_tx", "pcie_generation", "pcie_width", "ecc_uncorrected", "energy"):
        nvml.set_gpu(0, **{key: None})
    watcher = start()
    watcher.wait_ready()
    bare, full = watcher.gpus()
    assert bare["health"] == "ok"
    known = {key for key, value in bare.items() if value not in (None, [])}
    assert known == {"index", "uuid", "name", "health"} | {"reason"}
    assert full["power_watts"] == 25.0


def test_throttling_is_named_and_told_once(nvml: FakeNvml, start: Start) -> None:
    watcher = start()
    watcher.wait_ready()
    nvml.set_gpu(0, throttle=0x4)
    watcher.wait_for_gpu(0, lambda gpu: gpu["throttle_reasons"] == ["sw_power_cap"])
    assert watcher.ask("events") == []  # a power cap is daily life
    nvml.set_gpu(0, throttle=0x4 | 0x40)
    watcher.wait_for_gpu(0, lambda gpu: gpu["throttle_reasons"] == ["sw_power_cap", "hw_thermal_slowdown"])
    nvml.set_gpu(0, throttle=0)
    watcher.wait_for_gpu(0, lambda gpu: gpu["throttle_reasons"] == [])
    nvml.set_gpu(0, throttle=0x40)
    watcher.wait_for_gpu(0, lambda gpu: gpu["throttle_reasons"] == ["hw_thermal_slowdown"])
    told = watcher.ask("events")
    assert [(event["type"], event["gpu"], event["reasons"]) for event in told] == [("gpu.throttled", 0, ["hw_thermal_slowdown"])]


def test_an_xid_is_told_with_its_meaning_and_shown_on_the_gpu(nvml: FakeNvml, start: Start) -> None:
    watcher = start()
    watcher.wait_ready()
    nvml.set_gpu(1, xid="1:79")
    event = watcher.wait_for_event("gpu.xid")
    assert (event["gpu"], event["uuid"], event["xid"]) == (1, "GPU-00000001-test", 79)
    assert "fallen off the bus" in event["meaning"]
    first, second = watcher.gpus()
    assert (first["xid"], second["xid"]) == ([], [79])
    nvml.set_gpu(1, xid="2:13")
    watcher.wait_for_gpu(1, lambda gpu: gpu["xid"] == [79, 13])


def test_a_lost_gpu_is_told_and_the_other_goes_on(nvml: FakeNvml, start: Start) -> None:
    nvml.set_gpu(0, utilisation=50, memory_used=GIB)
    watcher = start()
    watcher.wait_for_gpu(0, lambda gpu: gpu["utilisation"] == 0.5)
    nvml.set_gpu(0, lost=1)
    event = watcher.wait_for_event("gpu.lost")
    assert event["gpu"] == 0
    lost = watcher.gpus()[0]
    assert (lost["health"], lost["utilisation"], lost["memory_used_bytes"]) == ("lost", None, None)
    assert "lost" in lost["reason"].lower()
    assert lost["memory_total_bytes"] == 24 * GIB
    nvml.set_gpu(1, utilisation=42)
    watcher.wait_for_gpu(1, lambda gpu: gpu["utilisation"] == 0.42 and gpu["health"] == "ok")
    nvml.set_gpu(0, lost=None)
    watcher.wait_for_event("gpu.back")
    assert watcher.gpus()[0]["health"] == "ok"
    assert [event["type"] for event in watcher.events] == ["gpu.lost", "gpu.back"]


def test_a_gpu_that_tells_errors_only_is_in_error_and_not_idle(nvml: FakeNvml, start: Start) -> None:
    watcher = start()
    watcher.wait_ready()
    nvml.set_gpu(0, fault=999)
    gpu = watcher.wait_for_gpu(0, lambda gpu: gpu["health"] == "error")
    assert "Unknown Error" in gpu["reason"]
    nvml.set_gpu(0, fault=None)
    watcher.wait_for_event("gpu.back")


def test_a_gpu_that_was_lost_before_the_engine_came_is_listed_as_lost(nvml: FakeNvml, start: Start) -> None:
    nvml.set_gpu(0, lost=1)
    watcher = start()
    watcher.wait_ready()
    first, second = watcher.gpus()
    assert (first["health"], first["index"]) == ("lost", 0)
    assert (second["health"], second["index"]) == ("ok", 1)


def test_a_call_that_hangs_stalls_its_gpu_alone_and_nobody_waits(nvml: FakeNvml, start: Start) -> None:
    nvml.set_gpu(0, utilisation=77)
    watcher = start()
    watcher.wait_for_gpu(0, lambda gpu: gpu["utilisation"] == 0.77)
    nvml.set_gpu(0, hang=1)
    event = watcher.wait_for_event("gpu.stalled")
    assert event["gpu"] == 0
    stalled = watcher.gpus()[0]
    assert (stalled["health"], stalled["utilisation"]) == ("stalled", 0.77)  # the last reading stays on show
    assert "has not answered" in stalled["reason"]
    nvml.set_gpu(1, utilisation=12, xid="1:48")
    watcher.wait_for_gpu(1, lambda gpu: gpu["utilisation"] == 0.12)
    watcher.wait_for_event("gpu.xid")
    nvml.set_gpu(0, hang=None, utilisation=5)
    watcher.wait_for_event("gpu.back")
    watcher.wait_for_gpu(0, lambda gpu: gpu["health"] == "ok" and gpu["utilisation"] == 0.05)
    assert [event["type"] for event in watcher.events] == ["gpu.stalled", "gpu.xid", "gpu.back"]


def test_a_process_with_a_hanging_driver_call_still_ends(nvml: FakeNvml, start: Start) -> None:
    watcher = start()
    watcher.wait_ready()
    nvml.set_gpu(0, hang=1)
    watcher.wait_for_event("gpu.stalled")
    watcher.ask("stop")
    assert watcher.process.stdin is not None
    watcher.process.stdin.close()
    assert wait_for(lambda: watcher.process.poll() is not None)
    assert watcher.process.returncode == 0


def test_a_driver_that_hangs_at_start_is_said_and_holds_nobody_up(nvml: FakeNvml, start: Start) -> None:
    nvml.set(init_hang=1)
    watcher = start(call_timeout_seconds=0.2)
    assert watcher.ask("ready") is False
    watcher.wait_ready()
    assert watcher.gpus() == []
    assert "has not answered" in watcher.ask("warnings")[0]
    nvml.set(init_hang=0)
    watcher.wait_for_gpu(1, lambda gpu: gpu["health"] == "ok")
    assert watcher.ask("warnings") == []


def test_a_driver_that_does_not_start_is_a_warning(nvml: FakeNvml, start: Start) -> None:
    nvml.set(init=18)
    watcher = start()
    watcher.wait_ready()
    assert watcher.gpus() == []
    (warning,) = watcher.ask("warnings")
    assert "version mismatch" in warning
    assert "nvidia-smi" in warning


def test_without_the_library_there_are_no_gpus_no_warning_and_no_pynvml(start: Start) -> None:
    watcher = start(environment={**os.environ, "LD_LIBRARY_PATH": "/nonexistent"})
    watcher.wait_ready()
    assert (watcher.gpus(), watcher.ask("warnings"), watcher.ask("pynvml")) == ([], [], False)


def test_a_driver_that_the_settings_ask_for_and_that_is_missing_is_a_warning(start: Start) -> None:
    watcher = start(environment={**os.environ, "LD_LIBRARY_PATH": "/nonexistent"}, probe="nvml")
    watcher.wait_ready()
    (warning,) = watcher.ask("warnings")
    assert "libnvidia-ml.so.1 is not installed" in warning


def test_settings_can_turn_the_gpus_off(start: Start) -> None:
    watcher = start(probe="none")
    watcher.wait_ready()
    assert (watcher.gpus(), watcher.ask("warnings"), watcher.ask("pynvml")) == ([], [], False)


def test_a_driver_before_510_is_read_through_its_older_calls(tmp_path: Path, start: Start, sleeper: Callable[..., int]) -> None:
    old = FakeNvml(compile_library(tmp_path / "old", "-DOLD_DRIVER"), tmp_path / "old.state", gpus=1)
    pid = sleeper()
    old.set_gpu(0, memory_used=GIB, temperature=60, throttle=0x20, processes=f"{pid}:{GIB}")
    watcher = start(environment=old.environment())
    watcher.wait_ready()
    (gpu,) = watcher.gpus()
    assert gpu["memory_used_bytes"] == GIB + GIB // 2  # these drivers count what they keep for themselves as used
    assert (gpu["temperature_celsius"], gpu["throttle_reasons"]) == (60.0, ["sw_thermal_slowdown"])
    assert [process["pid"] for process in gpu["processes"]] == [pid]


def test_a_gpu_names_the_run_or_the_foreign_owner_of_each_process(
    nvml: FakeNvml, start: Start, sleeper: Callable[..., int], tmp_path: Path
) -> None:
    ours = sleeper(LLMOPS_RUN_ID="train-fiqa-0003", LLMOPS_HOME=str(tmp_path / "home"))
    neighbours = sleeper(LLMOPS_RUN_ID="train-fiqa-0003", LLMOPS_HOME="/somewhere/else")
    adopted = sleeper()
    foreign = sleeper()
    nvml.set_gpu(0, processes=f"{ours}:{2 * GIB},{neighbours}:{GIB},{adopted}:{GIB},{foreign}", graphics=f"{ours}:{2 * GIB}")
    watcher = start(runs={str(adopted): "evaluate-fiqa-0004"})
    watcher.wait_ready()
    rows = {row["pid"]: row for row in watcher.gpus()[0]["processes"]}
    assert {pid: row["run"] for pid, row in rows.items()} == {
        ours: "train-fiqa-0003",
        neighbours: None,  # another engine's run of the same name
        adopted: "evaluate-fiqa-0004",
        foreign: None,
    }
    assert rows[ours]["memory_bytes"] == 2 * GIB
    assert rows[foreign] == {"pid": foreign, "memory_bytes": None, "run": None, "owner": getpass.getuser(), "command": "sleep 300"}


def test_a_process_that_is_hidden_or_gone_is_listed_without_an_owner(nvml: FakeNvml, start: Start) -> None:
    nvml.set_gpu(0, processes=f"4194305:{GIB}")  # above the largest pid a kernel gives
    watcher = start()
    watcher.wait_ready()
    (row,) = watcher.gpus()[0]["processes"]
    assert row == {"pid": 4194305, "memory_bytes": GIB, "run": None, "owner": "", "command": ""}


def test_only_own_processes_are_believed_about_their_run(sleeper: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    pid = sleeper(LLMOPS_RUN_ID="train-x-0001", LLMOPS_HOME="/home/me")
    assert run_of_process(pid) == "train-x-0001"
    assert run_of_process(pid, Path("/home/me")) == "train-x-0001"
    assert run_of_process(pid, Path("/home/you")) is None
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert run_of_process(pid) is None
