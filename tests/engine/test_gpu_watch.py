"""The monitor against drivers that no library plays: one that breaks, one that hangs from the first call on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from llmops_tui.engine.gpu_probe import Device, DriverMissingError, FastReading, SlowReading
from llmops_tui.engine.gpus import GpuMonitor
from llmops_tui.specs.settings import Settings
from tests.waiting import wait_for

SETTINGS = Settings.model_validate({"engine": {"sample_seconds": 0.2}, "gpus": {"call_timeout_seconds": 1.0}})


class PlayedGpu:
    """One GPU that does what its `read` says."""

    index, uuid, name = 0, "GPU-played", "Played GPU"

    def __init__(self) -> None:
        self.read: Callable[[], FastReading] = FastReading

    def read_fast(self) -> FastReading:
        return self.read()

    def read_slow(self) -> SlowReading:
        return SlowReading()


class PlayedDriver:
    def __init__(self, gpu: PlayedGpu) -> None:
        self._gpu = gpu
        self.closed = threading.Event()

    def open(self) -> Sequence[Device]:
        return [self._gpu]

    def versions(self) -> dict[str, str]:
        return {"played": "1"}

    def close(self) -> None:
        self.closed.set()

    def wait_for_xid(self, seconds: float) -> tuple[int, int] | None:
        raise DriverMissingError("no events")


@pytest.fixture
def gpu() -> PlayedGpu:
    return PlayedGpu()


@pytest.fixture
def driver(gpu: PlayedGpu) -> PlayedDriver:
    return PlayedDriver(gpu)


@pytest.fixture
def monitor(driver: PlayedDriver) -> Iterator[GpuMonitor]:
    def ask(pid: int) -> str | None:
        raise RuntimeError("the scheduler has a bad day")

    def play() -> PlayedDriver:
        return driver

    monitor = GpuMonitor(SETTINGS, ask, probes=[play])
    yield monitor
    monitor.stop()


def health(monitor: GpuMonitor) -> tuple[str, str]:
    (gpu,) = monitor.snapshot()
    return gpu["health"], gpu["reason"]


def test_a_reading_that_breaks_shows_on_the_gpu_and_heals(monitor: GpuMonitor, gpu: PlayedGpu) -> None:
    def break_down() -> FastReading:
        raise ValueError("nonsense from the driver")

    gpu.read = break_down
    monitor.start()
    assert monitor.wait_ready(10)
    assert health(monitor) == ("error", "ValueError: nonsense from the driver")
    gpu.read = FastReading
    wait_for(lambda: health(monitor) == ("ok", ""))
    assert [event["type"] for event in monitor.drain_events()] == ["gpu.back"]


def test_a_gpu_that_hangs_from_its_first_call_on_holds_nobody_up_and_comes_back(monitor: GpuMonitor, gpu: PlayedGpu) -> None:
    answer = threading.Event()

    def hang() -> FastReading:
        answer.wait(60)
        return FastReading(utilisation=0.5)

    gpu.read = hang
    monitor.start()
    assert monitor.wait_ready(10)
    assert health(monitor)[0] == "stalled"
    answer.set()
    wait_for(lambda: health(monitor)[0] == "ok")
    assert [event["type"] for event in monitor.drain_events()] == ["gpu.stalled", "gpu.back"]


def test_a_scheduler_that_cannot_say_whose_a_process_is_costs_no_reading(monitor: GpuMonitor, gpu: PlayedGpu) -> None:
    gpu.read = lambda: FastReading(utilisation=0.25, processes=[(4194305, 10)])
    monitor.start()
    assert monitor.wait_ready(10)
    (sample,) = monitor.snapshot()
    assert (sample["health"], sample["utilisation"], sample["processes"][0]["run"]) == ("ok", 0.25, None)


def test_stopping_lets_the_driver_go(monitor: GpuMonitor, gpu: PlayedGpu, driver: PlayedDriver) -> None:
    monitor.start()
    assert monitor.wait_ready(10)
    monitor.stop()
    assert driver.closed.wait(10)


def test_what_a_caller_does_to_a_snapshot_changes_nothing(monitor: GpuMonitor, gpu: PlayedGpu) -> None:
    gpu.read = lambda: FastReading(throttle_reasons=["sw_power_cap"], processes=[(4194305, 10)])
    monitor.start()
    assert monitor.wait_ready(10)
    first: Any = monitor.snapshot()[0]
    first["throttle_reasons"].clear()
    first["processes"][0]["run"] = "mine"
    first["held_by"].append("me")
    second = monitor.snapshot()[0]
    assert (second["throttle_reasons"], second["processes"][0]["run"], second["held_by"]) == (["sw_power_cap"], None, [])
