"""The engine killed: what is served goes on, and the next engine knows all that was answered for."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.running_engine import kill_engine
from tests.serving.serving_engine import Load, Serving
from tests.waiting import wait_for


def test_requests_go_on_while_the_engine_is_dead_and_the_next_one_adopts_all(serving: Serving, models: Path) -> None:
    serving.start("durable", models / "first.gguf", aliases=["lasting"])
    serving.client.serving.swap("durable", str(models / "second.gguf"))
    wait_for(lambda: serving.says("durable") == "second", 60)
    before, gateway, living = serving.client.serving.endpoint("durable"), serving.gateway_pid(), sorted(serving.living("durable"))
    with Load(serving, "durable", threads=2) as load:
        wait_for(lambda: len(load.answers) > 5)
        kill_engine(serving.client.home)
        seen = len(load.answers)
        wait_for(lambda: len(load.answers) > seen + 20, 30, "requests to be answered without an engine")
        serving.start_engine()
        after = serving.until("durable", "ready")
    assert not load.failed
    assert (serving.gateway_pid(), sorted(serving.living("durable"))) == (gateway, living)
    for part in ("aliases", "previous", "history", "created_at", "spec"):
        assert after[part] == before[part]  # type: ignore[literal-required]
    serving.client.serving.rollback("durable")
    assert serving.says("lasting") == "first"
    serving.stop("durable")


def test_a_wish_that_was_answered_is_done_by_the_next_engine(serving: Serving, models: Path) -> None:
    serving.client.serving.start({"name": "wished", "versions": [{"model": str(models / "first.gguf")}]})
    kill_engine(serving.client.home)
    serving.start_engine()
    serving.until("wished", "ready")
    assert len(serving.living("wished")) == 1
    serving.client.serving.stop("wished")
    kill_engine(serving.client.home)
    serving.start_engine()
    wait_for(lambda: not serving.living("wished"), 60, "what was stopped to end")


def test_a_damaged_file_costs_its_endpoint_alone_and_its_servers_are_left(serving: Serving, models: Path) -> None:
    serving.start("whole", models / "first.gguf")
    serving.start("torn", models / "second.gguf")
    run = serving.living("torn")
    path = serving.root / "serving" / "endpoints" / "torn.json"
    content = path.read_bytes()
    kill_engine(serving.client.home)
    path.write_bytes(content[: len(content) // 2])
    serving.start_engine()
    serving.until("whole", "ready")
    assert any("torn.json is left out" in warning for warning in serving.client.serving.gateway()["warnings"])
    assert serving.living("torn") == run
    with pytest.raises(Exception, match="belongs to an endpoint whose file is damaged"):
        serving.client.serving.start({"name": "torn", "versions": [{"model": str(models / "first.gguf")}]})
    kill_engine(serving.client.home)
    path.write_bytes(content)
    serving.start_engine()
    serving.until("torn", "ready")
    assert serving.living("torn") == run
    assert json.loads(content)["spec"]["name"] == "torn"
    for name in ("whole", "torn"):
        serving.stop(name)


def test_a_gateway_that_was_killed_is_started_again(serving: Serving, models: Path) -> None:
    serving.start("door", models / "first.gguf")
    pid = serving.gateway_pid()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: serving.client.serving.gateway()["pid"] not in (None, pid), 60, "another gateway")
    wait_for(lambda: serving.ask("door")[0] == 200, 30)
    serving.stop("door")


def test_a_gateway_whose_port_was_taken_meanwhile_is_told_of_and_comes_back(serving: Serving, models: Path) -> None:
    serving.start("shut", models / "first.gguf")
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(serving.gateway_pid(), signal.SIGKILL)
        wait_for(lambda: _bound(thief, serving.port), 10)
        thief.listen()
        told = wait_for(lambda: (g := serving.client.serving.gateway())["state"] == "failed" and g, 60, "the taken port to be told of")
        assert "address already in use" in told["problem"]
        assert "address already in use" in serving.client.serving.endpoint("shut")["reason"]
    wait_for(lambda: serving.ask("shut")[0] == 200, 60, "the gateway to be back")
    serving.stop("shut")


def _bound(one: socket.socket, port: int) -> bool:
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_after_the_box_went_down_with_everything_on_it_the_next_engine_serves_again(serving: Serving, models: Path) -> None:
    """All that a power cut takes: engine, gateway, shims, keepers and servers. The unit starts the engine (`engine service install`)."""
    serving.start("back", models / "first.gguf", aliases=["again"])
    pids = sorted(_everything_of(serving.root))
    assert len(pids) >= 5, "the engine, its gateway, and of the server the shim, the keeper and the process itself"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # nobody may see another go
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not _everything_of(serving.root), 20)
    serving.start_engine()
    wait_for(lambda: serving.ask("again")[0] == 200, 60, "the endpoint to answer again")
    assert serving.says("again") == "first"
    assert len(serving.living("back")) == 1
    serving.stop("back")


def _everything_of(root: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if str(root).encode() in said and state != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found
