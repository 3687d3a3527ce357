"""Host samples are plausible from the first one on."""

from __future__ import annotations

import os
from pathlib import Path

from llmops_tui.engine.host import HostMonitor
from tests.waiting import wait_for


def test_the_first_sample_is_already_plausible(tmp_path: Path) -> None:
    sample = HostMonitor(tmp_path).sample(4, 3)
    assert 0.0 <= sample["cpu"] <= 1.0
    assert (sample["cpu_slots"], sample["cpu_slots_free"]) == (4, 3)
    assert 1 <= sample["cpu_cores"] <= (os.cpu_count() or 1)
    assert 0 < sample["memory_used_bytes"] < sample["memory_total_bytes"]
    assert 0 < sample["disk_free_bytes"] < sample["disk_total_bytes"]


def test_a_busy_core_shows_as_cpu_use(tmp_path: Path) -> None:
    monitor = HostMonitor(tmp_path)

    def busy() -> bool:
        sum(number * number for number in range(300_000))
        return monitor.sample(1, 1)["cpu"] > 0.5 / (os.cpu_count() or 1)

    wait_for(busy, what="this process' work in the CPU reading")


def test_a_state_directory_that_is_not_there_yet_is_measured_by_its_parent(tmp_path: Path) -> None:
    assert HostMonitor(tmp_path / "not" / "yet").sample(1, 1)["disk_total_bytes"] == HostMonitor(tmp_path).sample(1, 1)["disk_total_bytes"]
