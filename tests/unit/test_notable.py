"""Which events are worth a person's attention, and the words for them."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.specs.answers import EngineEvent
from llmops_tui.specs.notable import TYPES, notable


def event(kind: str, run: str | None = None, **data: Any) -> EngineEvent:
    return EngineEvent(seq=1, t=1.0, type=kind, run=run, data=data)


@pytest.mark.parametrize(
    ("state", "topic", "level", "title"),
    [
        ("succeeded", "finished", "good", "train-a-0001 finished"),
        ("cancelled", "finished", "note", "train-a-0001 was cancelled"),
        ("failed", "failed", "bad", "train-a-0001 failed"),
        ("out_of_memory", "failed", "bad", "train-a-0001 ran out of memory"),
        ("hung", "failed", "bad", "train-a-0001 hung and was stopped"),
        ("lost", "failed", "bad", "train-a-0001 is lost"),
    ],
)
def test_every_end_of_a_run_is_told_in_its_own_words(state: str, topic: str, level: str, title: str) -> None:
    words = notable(event("run.state", "train-a-0001", state=state, reason="exit code 3"))
    assert words is not None
    assert (words.topic, words.level, words.title, words.text) == (topic, level, title, "exit code 3")


def test_daily_life_is_not_told() -> None:
    for state in ("queued", "blocked", "starting", "running", "stopping", "removed"):
        assert notable(event("run.state", "train-a-0001", state=state)) is None
    for kind in ("run.submitted", "run.progress", "engine.started", "ingest.resumed", "gpu.back", "gpu.throttled", "run.annotated"):
        assert notable(event(kind, "train-a-0001")) is None


@pytest.mark.parametrize(
    ("given", "level", "title", "text"),
    [
        (event("gpu.xid", gpu=1, xid=79, meaning="fallen off the bus"), "bad", "GPU 1: Xid 79", "fallen off the bus"),
        (event("gpu.lost", gpu=0, reason="a reset brings it back"), "bad", "GPU 0 is lost", "a reset brings it back"),
        (event("gpu.stalled", gpu=0, reason="no answer for 3 s"), "warn", "GPU 0 does not answer", "no answer for 3 s"),
        (event("gpu.hidden_memory", gpu=2, reason="3.0 GiB"), "warn", "GPU 2: memory in use without a process", "3.0 GiB"),
        (event("alarm.loss_spike", title="loss 9 times its median", level="bad"), "bad", "loss 9 times its median", ""),
        (event("alarm.loss_spike"), "warn", "loss spike", ""),
        (event("notify.failed", channel="hook", reason="exit code 1"), "warn", "the hook does not work", "exit code 1"),
    ],
)
def test_alarms_have_a_level_a_title_and_a_reason(given: EngineEvent, level: str, title: str, text: str) -> None:
    words = notable(given)
    assert words is not None
    assert (words.topic, words.level, words.title, words.text) == ("alarm", level, title, text)


def test_a_full_disk_says_that_nothing_is_lost() -> None:
    words = notable(event("ingest.paused", state="paused: 200 MiB free"))
    assert words is not None
    assert words.title == "the engine stores nothing for now"
    assert words.text == "200 MiB free; jobs go on and lose nothing, and it goes on by itself"


def test_a_question_names_who_asks_and_about_what() -> None:
    words = notable(event("note.asked", "train-a-0001", **{"from": "grace", "to": "ada", "message": "may I have GPU 0?"}))
    assert words is not None
    assert (words.topic, words.title, words.text) == ("asked", "grace asks about train-a-0001", "may I have GPU 0?")


def test_nonsense_in_an_event_is_no_error_and_no_flood() -> None:
    words = notable(event("gpu.lost", reason="x" * 100_000))
    assert words is not None
    assert (words.title, len(words.text)) == ("GPU ? is lost", 2000)
    assert notable(event("run.state", None, state=["failed"])) is None


def test_an_alarm_of_a_watcher_is_told_and_one_that_is_only_noted_is_not() -> None:
    data = {"title": "train-a-0001: loss spike", "text": "the loss jumped", "action": "alarm", "level": "warn"}
    words = notable(event("alarm.spike", "train-a-0001", **data))
    assert words is not None
    assert (words.title, words.text) == ("train-a-0001: loss spike", "the loss jumped")
    assert notable(event("alarm.spike", "train-a-0001", **{**data, "action": "note"})) is None
    assert "alarm.spike" in TYPES
