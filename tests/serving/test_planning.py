"""Which servers an endpoint starts and lets go, and which endpoints make room for a run: from the wish and what there is, without I/O."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.endpoints.changes import begin, reroute, swap
from llmops_tui.engine.endpoints.entry import Entry
from llmops_tui.engine.endpoints.planning import MOST_FAILURES, Server, ready_versions, steps
from llmops_tui.engine.endpoints.yielding import IDLE_SECONDS, who_yields
from llmops_tui.engine.live_run import LiveRun
from llmops_tui.errors import ConflictError
from llmops_tui.specs.endpoint import EndpointSpec, EndpointVersion
from llmops_tui.specs.parse import parse_spec

NOW = 1_000_000.0
GIB = 1 << 30


def entry(*versions: dict[str, Any], **spec: Any) -> Entry:
    listed = [EndpointVersion(**{"model": "m", **version}) for version in versions or ({"name": "v1"},)]
    return begin(EndpointSpec(name="e", versions=listed, **spec), owner="o", uid=0, cwd="/", now=NOW - 1000)


def server(run: str, version: str = "v1", phase: Any = "ready", **more: Any) -> Server:
    return Server(run, version, phase, NOW - 100, **more)


def test_missing_servers_are_started_and_the_youngest_superfluous_ones_go() -> None:
    three = entry({"name": "v1", "replicas": 3})
    assert steps(three, [server("a"), server("b", phase="draining")], NOW).start == ["v1", "v1"]
    one = entry()
    young, old, waiting = replace(server("young"), since=NOW), server("old"), server("waiting", phase="waiting")
    assert steps(one, [old, young, waiting], NOW).drain == ["waiting", "young"]


def test_failures_are_paused_for_longer_each_time_and_then_given_up() -> None:
    def ended(count: int) -> list[Server]:
        return [server(f"r{n}", phase="ended", failed=True, ended_at=NOW, reason="it crashed") for n in range(count)]

    pauses = [steps(entry(), ended(count), NOW).pauses["v1"][0] - NOW for count in range(1, MOST_FAILURES)]
    assert pauses == [1, 2, 4]
    broken = steps(entry(), ended(MOST_FAILURES), NOW)
    assert "it crashed" in broken.broken["v1"]
    assert not broken.start
    asked_again = replace(entry(), fresh_since={"v1": NOW + 1})
    assert steps(asked_again, ended(MOST_FAILURES), NOW + 2).start == ["v1"]


def test_a_clock_that_was_set_back_neither_keeps_an_endpoint_down_nor_lets_it_try_without_end() -> None:
    ahead = [server(f"r{n}", phase="ended", failed=True, ended_at=NOW + 3600) for n in range(MOST_FAILURES)]
    later = replace(entry(), created_at=NOW + 3000, fresh_since={"v1": NOW + 3000})
    assert steps(later, ahead, NOW).start == ["v1"]
    since = [server(f"s{n}", phase="ended", failed=True, ended_at=NOW - 1, reason="it crashed") for n in range(MOST_FAILURES)]
    assert "it crashed" in steps(later, ahead + since, NOW).broken["v1"]


def test_a_version_that_is_scaled_to_no_servers_is_not_routed_to() -> None:
    rests = entry({"name": "v1"}, {"name": "v2", "replicas": 0}, {"name": "a", "adapter_of": "v2"})
    for name in ("v2", "a"):
        with pytest.raises(ConflictError, match="v2 of e is scaled to no servers"):
            reroute(rests, {name: 100.0}, {"v1"}, what="route", by="o", now=NOW)
    assert reroute(rests, {"v1": 1.0}, {"v1"}, what="route", by="o", now=NOW).routed == {"v1": 1.0}


def test_a_swap_beside_keeps_the_old_server_and_one_instead_lets_it_go_first() -> None:
    old = server("old")
    beside, _ = swap(entry(), EndpointVersion(model="m", name="v2"), by="o", now=NOW, mode="beside")
    assert (steps(beside, [old], NOW).start, steps(beside, [old], NOW).drain) == (["v2"], [])
    instead, _ = swap(entry(), EndpointVersion(model="m", name="v2"), by="o", now=NOW, mode="instead")
    assert (steps(instead, [old], NOW).start, steps(instead, [old], NOW).drain) == ([], ["old"])
    assert steps(instead, [replace(old, phase="ended")], NOW).start == ["v2"]


def test_the_version_before_is_kept_warm_and_no_longer() -> None:
    two = entry({"name": "v1"}, {"name": "v2"}, keep_previous_seconds=60)
    turned = reroute(two, {"v2": 1}, {"v1", "v2"}, what="route", by="o", now=NOW)
    servers = [server("one"), server("two", "v2")]
    assert steps(turned, servers, NOW + 59).drain == []
    assert steps(turned, servers, NOW + 61).drain == ["one"]


ADAPTED = ({"name": "v1"}, {"name": "tone", "model": "t", "adapter_of": "v1"})


def test_a_server_without_a_wanted_adapter_goes_once_one_with_it_is_ready() -> None:
    bare, loaded = server("bare", runtime="llamacpp"), server("loaded", phase="starting", riders=(("tone", "t"),))
    found = entry(*ADAPTED)
    assert (steps(found, [bare], NOW).start, steps(found, [bare], NOW).drain) == (["v1"], [])
    assert (steps(found, [bare, loaded], NOW).start, steps(found, [bare, loaded], NOW).drain) == ([], [])
    assert steps(found, [bare, replace(loaded, phase="ready")], NOW).drain == ["bare"]


def test_another_model_under_an_adapters_name_is_another_adapter() -> None:
    old = server("old", runtime="llamacpp", riders=(("tone", "t before"),), adapters=(("tone", "lora:0"),))
    assert steps(entry(*ADAPTED), [old], NOW).start == ["v1"]
    one_more = server("old", runtime="llamacpp", riders=(("tone", "t"), ("gone", "g")))
    assert steps(entry(*ADAPTED), [one_more], NOW).start == []


def test_a_server_that_takes_adapters_while_it_runs_is_given_them() -> None:
    vllm = server("vllm", runtime="vllm", adapters=(("gone", "gone"),), takes_adapters=True)
    found = steps(entry(*ADAPTED), [vllm], NOW)
    assert (found.start, found.drain, found.load, found.unload) == ([], [], [("vllm", "tone")], [("vllm", "gone")])
    assert ready_versions(entry(*ADAPTED), [vllm]) == {"v1"}
    assert ready_versions(entry(*ADAPTED), [replace(vllm, adapters=(("tone", "tone"),))]) == {"v1", "tone"}


def test_one_that_was_started_without_room_for_adapters_is_replaced_whatever_its_runtime() -> None:
    bare = server("vllm", runtime="vllm")
    found = steps(entry(*ADAPTED), [bare], NOW)
    assert (found.start, found.drain, found.load) == (["v1"], [], [])
    loaded = server("loaded", runtime="vllm", riders=(("tone", "t"),), adapters=(("tone", "tone"),), takes_adapters=True)
    assert steps(entry(*ADAPTED), [bare, loaded], NOW).drain == ["vllm"]


# --- who makes room ---


def run(tmp_path: Path, name: str, state: str, spec: dict[str, Any], gpu: bool = False) -> LiveRun:
    found = LiveRun(RunDir(tmp_path / name), {"id": name, "spec": spec}, parse_spec(spec), priority=0, order=1.0)
    found.state = state
    if gpu:
        found.gpu_uuids, found.memory_bytes = ["GPU-0"], 4 * GIB
    return found


def gpu(used: int) -> Any:
    return {
        "index": 0, "uuid": "GPU-0", "name": "GPU", "health": "ok", "memory_total_bytes": 24 * GIB, "memory_used_bytes": used,
        "processes": [{"pid": 1, "run": "served", "memory_bytes": used, "name": "x", "user": "u"}], "held_by": ["served"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "last_used", "in_flight", "yields"),
    [
        ({"yields": "idle"}, NOW - IDLE_SECONDS - 1, 0, True),
        ({"yields": "idle"}, NOW - IDLE_SECONDS + 5, 0, False),
        ({"yields": "idle"}, NOW - 999, 1, False),
        ({"yields": "always"}, NOW, 1, True),
        ({"yields": "never"}, NOW - 999, 0, False),
        ({"yields": "always", "pinned": True}, NOW - 999, 0, False),
    ],
)
def test_only_who_may_yield_does(tmp_path: Path, spec: Any, last_used: float, in_flight: int, *, yields: bool) -> None:
    waiting = run(tmp_path, "waiting", "queued", {"kind": "command", "argv": ["x"], "resources": {"gpus": 1}})
    serving = run(tmp_path, "served", "running", {"kind": "command", "argv": ["x"]}, gpu=True)
    told = {"e": {"last_used": last_used, "versions": {"v1": {"in_flight": in_flight}}}}
    runs = {one.id: one for one in (waiting, serving)}
    found = who_yields(waiting, [entry(**spec)], {"e": [server("served")]}, told, runs, [gpu(4 * GIB)], 1, NOW)
    assert found == (["e"] if yields else [])


def test_nobody_goes_where_it_would_not_help(tmp_path: Path) -> None:
    two = run(tmp_path, "waiting", "queued", {"kind": "command", "argv": ["x"], "resources": {"gpus": 2}})
    serving = run(tmp_path, "served", "running", {"kind": "command", "argv": ["x"]}, gpu=True)
    runs = {one.id: one for one in (two, serving)}
    assert who_yields(two, [entry(yields="always")], {"e": [server("served")]}, {}, runs, [gpu(4 * GIB)], 1, NOW) == []
