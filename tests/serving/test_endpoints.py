"""Endpoints by the engine's client and through the gateway: started, swapped, rolled back, weighted, scaled, unloaded, woken, stopped."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from llmops_tui.errors import ConflictError
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Load, Serving
from tests.waiting import wait_for


def test_an_endpoint_answers_by_its_name_and_its_servers_end_with_it(serving: Serving, models: Path) -> None:
    found = serving.start("plain", models / "first.gguf", aliases=["also"])
    assert [version["name"] for version in found["versions"]] == ["v1"]
    assert serving.says("plain") == serving.says("also") == serving.says("plain:v1") == "first"
    run = found["replicas"][0]["run"]
    serving.stop("plain")
    assert serving.client.run(run)["state"] == "cancelled"
    status, answer = serving.ask("plain")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def test_a_swap_under_load_loses_no_request_and_the_version_before_stays_warm(serving: Serving, models: Path) -> None:
    serving.start("swapped", models / "first.gguf")
    with Load(serving, "swapped") as load:
        wait_for(lambda: load.saw("first"))
        serving.client.serving.swap("swapped", str(models / "second.gguf"))
        wait_for(lambda: load.saw("second"), 60)
    assert not load.failed
    found = serving.client.serving.endpoint("swapped")
    by_name = {version["name"]: version for version in found["versions"]}
    assert (by_name["v1"]["weight"], by_name["v1"]["ready"], by_name["v2"]["weight"]) == (0, 1, 100)
    assert by_name["v1"]["warm_until"] is not None
    assert found["previous"] == {"v1": 100}
    serving.stop("swapped")


def test_a_rollback_holds_for_the_next_request(serving: Serving, models: Path) -> None:
    serving.start("back", models / "first.gguf")
    serving.client.serving.swap("back", str(models / "second.gguf"))
    wait_for(lambda: serving.says("back") == "second", 60)
    serving.client.serving.rollback("back")
    assert serving.says("back") == "first"
    serving.client.serving.rollback("back")  # of a rollback: forward again
    assert serving.says("back") == "second"
    serving.stop("back")


def test_what_never_changed_has_nothing_to_go_back_to(serving: Serving, models: Path) -> None:
    serving.start("new", models / "first.gguf")
    with pytest.raises(ConflictError, match="no version to go back to"):
        serving.client.serving.rollback("new")
    serving.stop("new")


def test_a_swap_that_drains_holds_requests_back_instead_of_failing_them(serving: Serving, models: Path) -> None:
    first = serving.start("drained", models / "first.gguf", swap="drain")["replicas"][0]["run"]
    with Load(serving, "drained", threads=2) as load:
        wait_for(lambda: load.saw("first"))
        serving.client.serving.swap("drained", str(models / "second.gguf"))
        wait_for(lambda: load.saw("second"), 60)
    assert not load.failed
    gone = serving.client.run(first)
    second = serving.client.serving.endpoint("drained")["replicas"][0]
    assert gone["ended_at"] is not None
    assert second["started_at"] is not None
    assert gone["ended_at"] <= second["started_at"]
    serving.stop("drained")


def test_a_swap_to_a_model_that_does_not_start_is_given_up_and_the_old_one_goes_on(
    serving: Serving, models: Path, runtime: FakeRuntime
) -> None:
    serving.start("kept", models / "first.gguf")
    runtime.mood("third", exit=1, say="error: llama.cpp did not start: tensor 'x' data is not within the file bounds")
    try:
        with Load(serving, "kept", threads=1) as load:
            serving.client.serving.swap("kept", str(models / "third.gguf"))
            wait_for(lambda: serving.client.serving.endpoint("kept")["pending"] is None, 60)
        assert not load.failed
        found = serving.client.serving.endpoint("kept")
        assert "the model's file is broken or cut short" in found["history"][-1]["what"]
        assert found["state"] == "ready"
        assert serving.says("kept") == "first"
    finally:
        runtime.mood("third")
        serving.stop("kept")


def test_weights_spread_the_requests_and_a_candidate_is_asked_by_name(serving: Serving, models: Path) -> None:
    serving.start("split", models / "first.gguf")
    serving.client.serving.add_version("split", {"model": str(models / "second.gguf")}, str(serving.root))
    assert serving.says("split") == "first"
    serving.client.serving.route("split", {"v1": 75, "v2": 25})
    wait_for(lambda: {v["name"]: v["share"] for v in serving.client.serving.endpoint("split")["versions"]} == {"v1": 0.75, "v2": 0.25}, 60)
    seen = Counter(serving.says("split") for _ in range(200))
    assert 20 <= seen["second"] <= 80  # 50 ± 30: wrong once in a million
    assert serving.says("split:v2") == "second"
    serving.client.serving.route("split", {"v2": 1})
    assert {serving.says("split") for _ in range(5)} == {"second"}
    serving.stop("split")


def test_shadow_traffic_is_counted_and_its_answers_are_thrown_away(serving: Serving, models: Path) -> None:
    serving.start("shadowed", models / "first.gguf", {"model": str(models / "second.gguf"), "name": "shadow"})
    serving.client.serving.route("shadowed", mirror={"shadow": 1.0})
    wait_for(lambda: serving.client.serving.endpoint("shadowed")["versions"][1]["ready"] == 1, 60)
    wait_for(lambda: serving.says("shadowed") == "first" and b'version="shadow"' in _metrics(serving), 30, "the mirror to be counted")
    assert {serving.says("shadowed") for _ in range(10)} == {"first"}
    serving.stop("shadowed")


def test_an_idle_endpoint_unloads_and_the_next_request_starts_it(serving: Serving, models: Path) -> None:
    serving.start("idle", models / "first.gguf", idle_unload_seconds=1.0)
    assert serving.says("idle") == "first"
    assert "no request for 1 s" in serving.until("idle", "asleep")["reason"]
    wait_for(lambda: not serving.living("idle"), 30)
    assert serving.says("idle") == "first"
    serving.client.serving.pin("idle")
    pinned = serving.until("idle", "ready")["replicas"][0]["run"]
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() - begun > 2.5 or serving.client.serving.endpoint("idle")["state"] == "asleep")
    assert serving.living("idle") == [pinned]
    serving.stop("idle")


def test_one_that_was_unloaded_by_wish_is_started_by_the_next_request_which_waits(serving: Serving, models: Path) -> None:
    serving.start("wished", models / "first.gguf")
    serving.client.serving.sleep("wished")
    wait_for(lambda: not serving.living("wished"), 30)
    assert serving.says("wished") == "first"
    serving.stop("wished")


def test_an_endpoint_on_demand_has_no_server_before_somebody_asks(serving: Serving, models: Path) -> None:
    found = serving.start("later", models / "first.gguf", wait=False, on_demand=True)
    assert (found["state"], found["replicas"]) == ("asleep", [])
    assert serving.says("later") == "first"
    serving.stop("later")


def test_another_server_is_planned_and_started_like_the_first(serving: Serving, models: Path) -> None:
    serving.start("many", {"model": str(models / "first.gguf"), "serve": {"slots": 2, "context": 64}})
    serving.client.serving.scale("many", 3)
    found = wait_for(lambda: (e := serving.client.serving.endpoint("many")) and e["versions"][0]["ready"] == 3 and e, 60)
    assert {(replica["slots"], replica["context"]) for replica in found["replicas"]} == {(2, 64)}
    assert len({replica["port"] for replica in found["replicas"]}) == 3
    serving.client.serving.scale("many", 1)
    wait_for(lambda: len(serving.living("many")) == 1, 60)
    assert serving.says("many") == "first"
    serving.stop("many")


def test_a_server_killed_under_load_costs_only_what_it_was_answering(serving: Serving, models: Path, runtime: FakeRuntime) -> None:
    runtime.mood("first", wait=0.2)
    try:
        found = serving.start("killed", {"model": str(models / "first.gguf"), "replicas": 2})
        wait_for(lambda: serving.client.serving.endpoint("killed")["versions"][0]["ready"] == 2, 60)
        victim = serving.client.serving.endpoint("killed")["replicas"][0]["run"]
        with Load(serving, "killed", threads=4) as load:
            wait_for(lambda: len(load.answers) > 8)
            os.kill(serving.server_pid(victim), signal.SIGKILL)
            killed = time.time()
            wait_for(lambda: sum(answer[0] > killed + 1 for answer in load.answers) > 20, 30)
        assert len(load.failed) <= 4
        assert all(at < killed + 5 for at, _, _ in load.failed)
        assert found["name"] == "killed"
        restarted = wait_for(lambda: [e for e in serving.events(victim) if e["state"] == "restarting"], 30)
        assert "killed" in restarted[0]["cause"]
        wait_for(lambda: serving.events(victim)[-1]["state"] == "ready", 30)
    finally:
        runtime.mood("first")
        serving.stop("killed")


def test_requests_under_way_are_answered_before_a_server_stops(serving: Serving, models: Path, runtime: FakeRuntime) -> None:
    serving.start("patient", models / "third.gguf")
    runtime.mood("third", wait=1.5)
    try:
        with Load(serving, "patient", threads=3) as load:
            wait_for(lambda: any(version["in_flight"] for version in serving.client.serving.endpoint("patient")["versions"]), 30)
            serving.client.serving.stop("patient")
            wait_for(lambda: not serving.living("patient"), 60)
        # What came after the stop is refused by name; what was under way before it was answered whole.
        assert {status for _, status, _ in load.answers} == {200, 404}
    finally:
        runtime.mood("third")


def _metrics(serving: Serving) -> bytes:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{serving.port}/metrics", timeout=10) as response:
        return bytes(response.read())
