"""GPU and host history: kept in batches, aligned, forgotten by age."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.data.store import Store
from llmops_tui.engine.samples import Samples
from llmops_tui.specs.answers import GpuSample, HostSample
from llmops_tui.specs.settings import EngineSettings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


def host(t: float, cpu: float = 0.5) -> HostSample:
    return HostSample(
        t=t, cpu=cpu, cpu_cores=2, load_1m=1.0, memory_used_bytes=10, memory_total_bytes=20, disk_free_bytes=5, disk_total_bytes=9,
        cpu_slots=1, cpu_slots_free=0,
    )  # fmt: skip


def gpu(index: int, utilisation: float | None) -> GpuSample:
    return GpuSample(
        index=index, uuid=f"GPU-{index}", name="T", health="ok", reason="", utilisation=utilisation, memory_used_bytes=7,
        memory_total_bytes=9,        power_watts=None, power_limit_watts=None, temperature_celsius=50.0,
        sm_clock_mhz=1, memory_clock_mhz=1, throttle_reasons=[],
        pcie_rx_bytes_per_second=None, pcie_tx_bytes_per_second=None, pcie_generation=None, pcie_width=None, ecc_uncorrected=None,
        energy_joules=None, xid=[], processes=[], held_by=[], holders=[], held_since=None, idle_seconds=None, hidden_bytes=None,
    )  # fmt: skip


def committed(store: Store) -> int:
    store.write(lambda con: None).result()  # one writer: what was handed over before is done by now
    row = store.read(lambda con: con.execute("SELECT count(*) FROM samples").fetchone())
    return int(row[0]) if row else 0


def test_buffered_and_stored_samples_make_one_history(store: Store) -> None:
    samples, now = Samples(store, EngineSettings()), time.time()
    samples.add(host(now - 3, 0.25), [gpu(0, 0.5)])
    samples.flush()
    assert committed(store) > 0
    samples.add(host(now - 1, 0.75), [gpu(0, None)])
    history = samples.history(10, now)
    assert history["series"]["host/cpu"] == [0.25, 0.75]
    assert history["series"]["gpu/0/utilisation"] == [0.5, None]
    assert history["series"]["gpu/0/memory_used_bytes"] == [7.0, 7.0]
    assert "gpu/0/power_watts" not in history["series"]
    assert [round(t - now) for t in history["t"]] == [-3, -1]


def test_a_long_history_comes_in_at_most_the_asked_points_as_means(store: Store) -> None:
    samples, now = Samples(store, EngineSettings()), float(int(time.time()))
    for second in range(500):
        samples.add(host(now - 500 + second, float(second % 2)), [])
    samples.flush()
    history = samples.history(500, now, points=10)
    assert len(history["t"]) == 10
    assert history["series"]["host/cpu"] == [0.5] * 10


def test_samples_older_than_the_setting_are_forgotten(store: Store) -> None:
    samples, now = Samples(store, EngineSettings(keep_sample_days=1)), time.time()
    samples.add(host(now - 90_000), [])
    samples.add(host(now), [])
    samples.flush()
    assert committed(store) == 5
    assert samples.history(200_000, now)["series"]["host/cpu"] == [0.5]


def test_a_database_that_takes_nothing_does_not_stop_the_sampling(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    samples = Samples(store, EngineSettings())
    store.close()
    samples.add(host(1.0), [])
    samples.flush()
    assert "1 samples dropped" in caplog.text
