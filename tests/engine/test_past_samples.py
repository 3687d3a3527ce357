"""What was sampled tells a past panel: which GPU it was, how it was, who held it; and what was not sampled is not made up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.data.store import Store
from llmops_tui.engine.box_past import gpus_at, host_at
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.engine.log_sizes import LogSizes, series_name, storable
from llmops_tui.engine.run_past import Journals, runs_at, see_obstacles
from llmops_tui.engine.samples import Samples
from llmops_tui.specs.settings import EngineSettings
from tests.engine.test_samples import gpu, host


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "llmops.duckdb", EngineSettings())
    yield store
    store.close()


def a_run(tmp_path: Path, name: str, submitted_at: float, *journal: tuple[float, str, dict[str, Any]], **spec: Any) -> LiveRun:
    """A run whose directory holds this journal."""
    run = RunDir(tmp_path / name)
    run.path.mkdir()
    for t, state, data in journal:
        run.append_journal({"t": t, "entry": "state", "state": state, "attempt": 1, "reason": "", "data": data})
    return LiveRun(run, {"submitted_at": submitted_at, "owner": "ada", "spec": {"kind": "command", **spec}}, None)


@pytest.mark.parametrize("stored", [False, True])
def test_a_gpu_is_told_as_it_was(store: Store, tmp_path: Path, stored: bool) -> None:
    samples, t = Samples(store, EngineSettings()), time.time() - 100
    samples.add(host(t - 1), [gpu(0, 0.25)])
    throttled = gpu(0, 0.5)
    throttled["throttle_reasons"] = ["hw_thermal_slowdown", "sw_power_cap"]
    samples.add(host(t), [throttled])
    lost = gpu(0, None)
    lost["health"], lost["reason"] = "lost", "fell off the bus"
    samples.add(host(t + 1), [lost])
    if stored:
        samples.flush()
    holder = a_run(tmp_path, "command-h-0001", t - 50, (t - 40, "starting", {"gpus": ["GPU-0"], "cpu_slots": 1}), (t - 30, "running", {}))
    holder = Journals().fold(holder, t)

    before, during, after = (gpus_at(samples.at(at), [], [holder])[0] for at in (t - 0.5, t + 0.5, t + 1.5))
    assert (before["uuid"], before["name"], before["health"], before["utilisation"]) == ("GPU-0", "T", "ok", 0.25)
    assert (before["memory_used_bytes"], before["memory_total_bytes"], before["throttle_reasons"]) == (7, 9, [])
    assert (before["held_by"], before["holders"][0]["owner"], before["power_watts"]) == (["command-h-0001"], "ada", None)
    assert (during["utilisation"], during["throttle_reasons"]) == (0.5, ["sw_power_cap", "hw_thermal_slowdown"])
    assert (after["health"], after["reason"]) == ("lost", "it was lost then")


def test_where_nothing_was_sampled_nothing_is_told(store: Store) -> None:
    samples, t = Samples(store, EngineSettings()), time.time() - 1000
    samples.add(host(t), [gpu(0, 0.25)])
    samples.flush()
    for away in (t + 30, t + 500):
        values = samples.at(away)
        past = host_at(values, away, host(time.time()), [])
        assert (past["cpu"], past["memory_used_bytes"], past["disk_free_bytes"]) == (None, None, None)
        assert (past["cpu_cores"], past["memory_total_bytes"], past["cpu_slots_free"]) == (2, 20, 1)
        card = gpus_at(values, [gpu(0, 0.9)], [])[0]
        assert (card["uuid"], card["health"], card["utilisation"], card["memory_used_bytes"]) == ("GPU-0", "unknown", None, None)


def test_a_slow_series_is_found_a_minute_after_it_was_noted(store: Store) -> None:
    samples, t = Samples(store, EngineSettings()), time.time() - 1000
    for second in range(50):
        samples.add(host(t + second), [gpu(0, 0.5)])
    values = samples.at(t + 49)
    assert values["box/gpu/0/is/GPU-0/T"] == 1.0
    samples.flush()
    store.write(lambda con: None).result()
    noted = store.read(
        lambda con: con.execute("SELECT count(*) FROM samples JOIN sample_series USING (series_key) WHERE name LIKE 'box/%'").fetchone()
    )
    assert noted is not None
    assert noted[0] < 20, "what does not change is not stored every second"
    assert not [name for name in samples.history(2000)["series"] if not name.startswith(("host/", "gpu/"))]


def test_forgotten_samples_leave_a_moment_without_readings_and_a_later_beginning(store: Store) -> None:
    samples, now = Samples(store, EngineSettings(keep_sample_days=1)), time.time()
    old = now - 90_000
    samples.add(host(old), [])
    assert samples.first() == pytest.approx(old, abs=0.002)
    samples.add(host(now), [])
    samples.flush()
    store.write(lambda con: None).result()
    assert samples.at(old) == {}
    assert samples.first() == pytest.approx(now, abs=0.002)


@pytest.mark.parametrize("size", [0, 1, 2**24 - 1, 2**24 + 1, 10**9 + 7, 2**40 + 12345])
def test_a_stored_log_size_is_never_above_the_real_one_and_close_to_it(size: int) -> None:
    assert size * (1 - 2e-7) <= storable(size) <= size


def test_a_log_is_noted_when_it_grows_and_once_more_at_its_end(store: Store, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "command-a-0001")
    run.path.mkdir()
    sizes = LogSizes(tmp_path)
    assert sizes.look([run.id]) == {}, "no log yet"
    run.log.write_bytes(b"x" * 5)
    assert sizes.look([run.id]) == {series_name(run.id): 5.0}
    assert sizes.look([run.id]) == {}
    run.log.write_bytes(b"x" * 9)
    assert sizes.look([]) == {series_name(run.id): 9.0}, "it ended"
    assert sizes.look([]) == {}

    samples, t = Samples(store, EngineSettings()), time.time() - 200_000
    for at, size in ((t, 5.0), (t + 100_000, 9.0)):
        samples.add(host(at), [], {series_name(run.id): size})
        samples.flush()
    assert samples.newest(series_name(run.id), t - 10, t + 99_000) == 5.0
    assert samples.newest(series_name(run.id), t - 10, t + 199_000) == 9.0
    assert samples.newest(series_name(run.id), t - 10, t - 5) is None
    assert samples.newest("run/none/log_bytes", t - 10, t + 199_000) is None


def test_what_an_engine_noted_late_was_so_when_it_happened(tmp_path: Path) -> None:
    journal = Journals()
    run = a_run(
        tmp_path, "command-a-0001", 10.0,
        (11.0, "starting", {"gpus": [], "cpu_slots": 2}), (12.0, "running", {"started_at": 11.5}),
        (900.0, "failed", {"exit": 1, "ended_at": 50.0}),
    )  # fmt: skip
    states = [journal.fold(run, t).state for t in (10.5, 11.2, 11.6, 49.0, 50.0, 899.0)]
    assert states == ["queued", "starting", "running", "running", "failed", "failed"]
    assert journal.fold(run, 60.0).ended_at == 50.0
    run.dir.append_journal({"t": 950.0, "entry": "state", "state": "queued", "attempt": 2, "reason": "", "data": {}})
    run.journaled += 1
    assert journal.fold(run, 960.0).attempt == 2, "a journal that grew is read again"


def test_a_run_that_waited_for_another_is_blocked_only_until_that_one_had_ended(tmp_path: Path) -> None:
    first = a_run(tmp_path, "command-a-0001", 1.0, (2.0, "starting", {}), (9.0, "succeeded", {"ended_at": 9.0}))
    first.state, first.ended_at = "succeeded", 9.0
    second = a_run(tmp_path, "command-b-0002", 3.0, after_ok=[first.id])
    later = a_run(tmp_path, "command-c-0003", 20.0)

    def state_at(t: float) -> tuple[str, str]:
        moment, journals = runs_at([first, second, later], t), Journals()
        past = {run.id: journals.fold(run, t) for run in moment.open}
        assert later.id not in past
        see_obstacles(past, {run.id: run for run in moment.ended})
        return past[second.id].state, past[second.id].reason

    assert state_at(5.0) == ("blocked", f"waits for {first.id}")
    assert state_at(12.0) == ("queued", "")
    assert os.listdir(second.dir.path) == [], "looking changes nothing"
