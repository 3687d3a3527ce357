"""Replicas of vLLM, whose server is played: adapters that come and go while it runs, sleep after a drain, and a canary after it woke.

Each only where it was wished for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.rundir import append_line
from llmops_tui.errors import UsageError
from tests.catalog_files import write_adapter, write_model
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.serving.fake_runtime import FakeRuntime
from tests.serving.serving_engine import Load, Serving, serving_engine
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> FakeRuntime:
    return FakeRuntime(tmp_path_factory.mktemp("runtime") / "vllm", "vllm", "0.32.0", gpu=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    write_model(directory / "base")
    write_model(directory / "other", seed=1)
    write_adapter(directory / "tone", str(directory / "base"))
    wide = write_adapter(directory / "wide", str(directory / "base")) / "adapter_config.json"
    wide.write_text(json.dumps({**json.loads(wide.read_bytes()), "rank_pattern": {"q_proj": 40}}))
    write_adapter(directory / "foreign", str(directory / "elsewhere"))
    return directory


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    directory = tmp_path_factory.mktemp("cards")
    return FakeNvml(compile_library(directory / "library"), directory / "gpus.state", gpus=1)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, played: FakeRuntime, cards: FakeNvml) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("box")
    settings = f'[gpus]\nlock_directory = "{directory / "locks"}"\n[runtimes]\nvllm = "{played.place}"\n'
    with serving_engine(directory / "state", None, settings, cards.environment()) as running:
        yield running


def started(box: Serving, files: Path, **serve: Any) -> str:
    """The run of one server."""
    found = box.start("large", {"model": str(files / "base"), "serve": {"slots": 4, "context": 128, **serve}})
    assert found["replicas"][0]["runtime"] == "vllm"  # auto: there is a GPU and it can use it
    return found["replicas"][0]["run"]


def told(box: Serving, run: str, command: str, **arguments: Any) -> str:
    """What came of a wish."""
    append_line(box.run_file(run, "control.jsonl"), {"t": time.time(), "command": command, "who": "test", **arguments})
    found = wait_for(lambda: [event for event in box.events(run, "control") if event["command"] == command], 60)
    return str(found[-1]["outcome"])


def test_an_adapter_comes_and_goes_while_the_same_server_answers(box: Serving, files: Path) -> None:
    run = started(box, files, adapter_room=2)
    with Load(box, "large", threads=2) as load:
        box.client.serving.add_adapter("large", "tone", str(files / "tone"))
        wait_for(lambda: box.client.serving.endpoint("large")["versions"][1]["state"] == "ready", 60)
    assert not load.failed
    assert (box.says("large"), box.says("large:tone")) == ("base", "base+tone")
    box.client.serving.remove_version("large", "tone")
    wait_for(lambda: len(box.events(run, "control")) == 2, 60)
    assert [event["outcome"] for event in box.events(run, "control")] == ["loaded tone", "unloaded tone"]
    assert box.living("large") == [run]
    box.stop("large")


def test_without_room_for_adapters_a_server_with_it_takes_its_place(box: Serving, files: Path, played: FakeRuntime) -> None:
    run = started(box, files)
    assert "there is no room for others" in told(box, run, "load_adapter", name="tone", path=str(files / "tone"))
    with Load(box, "large", threads=2) as load:
        box.client.serving.add_adapter("large", "tone", str(files / "wide"))
        wait_for(lambda: box.client.serving.endpoint("large")["versions"][1]["state"] == "ready", 60)
        wait_for(lambda: run not in box.living("large"), 60)
    assert not load.failed
    assert (box.says("large"), box.says("large:tone")) == ("base", "base+wide")
    argv = played.starts("base")[-1]["argv"]
    assert argv[argv.index("--max-lora-rank") + 1] == "64"
    box.stop("large")


def test_an_adapter_comes_to_a_server_that_fills_its_card(box: Serving, files: Path, cards: FakeNvml) -> None:
    run = started(box, files, adapter_room=1)
    used = 24 * GIB - (100 << 20)
    cards.set_gpu(0, memory_used=used)
    try:
        wait_for(lambda: box.client.gpus()[0]["memory_used_bytes"] == used, 30)
        box.client.serving.add_adapter("large", "tone", str(files / "tone"))
        wait_for(lambda: box.client.serving.endpoint("large")["versions"][1]["state"] == "ready", 60)
        assert box.living("large") == [run]
    finally:
        cards.set_gpu(0, memory_used=0)
        box.stop("large")
        wait_for(lambda: box.client.gpus()[0]["memory_used_bytes"] == 0, 30)


def test_it_is_given_its_gpu_alone_and_the_share_that_was_planned(box: Serving, files: Path, played: FakeRuntime) -> None:
    started(box, files)
    argv = json.loads((played.place / "starts.jsonl").read_text().splitlines()[-1])
    assert argv["model.path"] == str(files / "base")
    assert box.client.gpus()[0]["held_by"] == box.living("large")
    box.stop("large")


def test_it_sleeps_only_once_it_answers_nobody_and_is_asked_the_same_when_it_woke(box: Serving, files: Path, played: FakeRuntime) -> None:
    run = started(box, files, sleep_mode=True)
    pid = box.server_pid(run)
    played.mood("base", wait=1.0)
    with Load(box, "large", threads=2) as load:
        wait_for(lambda: any(v["in_flight"] for v in box.client.serving.endpoint("large")["versions"]), 30)
        append_line(box.run_file(run, "control.jsonl"), {"t": time.time(), "command": "sleep", "who": "test"})
        wait_for(lambda: box.events(run)[-1]["state"] in ("draining", "sleeping"), 30)
    played.mood("base")
    slept = wait_for(lambda: (path := played.place / "slept.jsonl").exists() and path.read_text(), 60)
    assert json.loads(slept.splitlines()[0]) == {"path": "/sleep?level=1", "answering": 0}
    assert all(status in (200, 503) for _, status, _ in load.answers)
    assert "answers as before" in told(box, run, "wake")
    assert box.server_pid(run) == pid
    box.until("large", "ready")
    assert box.says("large") == "base"
    box.stop("large")


def test_one_that_answers_otherwise_after_it_woke_is_started_anew(box: Serving, files: Path, played: FakeRuntime) -> None:
    run = started(box, files, sleep_mode=True)
    pid = box.server_pid(run)
    played.mood("base", dream="nonsense")
    try:
        assert told(box, run, "sleep") == "sleeps"
        assert "started anew" in told(box, run, "wake")
        assert any("answered otherwise after it woke" in event["cause"] for event in box.events(run))
        assert box.server_pid(run) != pid
        assert box.says("large") == "base"
    finally:
        played.mood("base")
        box.stop("large")


def test_without_sleep_mode_it_ends_to_sleep_and_starts_to_wake(box: Serving, files: Path) -> None:
    run = started(box, files)
    pid = box.server_pid(run)
    assert told(box, run, "sleep") == "sleeps"
    assert not Path(f"/proc/{pid}").exists()
    assert "started anew" in told(box, run, "wake")
    assert box.server_pid(run) != pid
    box.stop("large")


def test_an_adapter_of_another_base_is_refused(box: Serving, files: Path) -> None:
    started(box, files)
    with pytest.raises(UsageError, match=r"was trained on .*, another base than"):
        box.client.serving.add_adapter("large", "wrong", str(files / "foreign"))
    assert len(box.client.serving.endpoint("large")["versions"]) == 1
    box.stop("large")
