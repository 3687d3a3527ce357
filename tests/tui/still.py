"""A viewer in which no time passes: a fixed clock, one answer of the engine, and everything as full as a picture needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.reach import Box
from llmops_tui.screens import chat, chat_asking, palette, sql, state
from llmops_tui.screens import console_app as app_module
from llmops_tui.screens.console_app import ConsoleApp
from llmops_tui.screens.palettes import PALETTES
from tests.tui.driving import screen_text
from tests.tui.fake import FakeEngine, gpu
from tests.tui.fake_form import TRAIN, an_estimate
from tests.tui.fake_serving import served

MOMENT = 1_795_435_200.0
"""Monday 2026-11-23 12:00:00 UTC."""
_FOREVER = 1e9
_QUIET_SECONDS = 1.0


class _StoppedWatch:
    """Instead of `time` where a page tells how long something took."""

    @staticmethod
    def monotonic() -> float:
        return 0.0


class _AnswerWatch(threading.local):
    """Instead of `time` where answers are timed: each thread's own, a piece every 40 ms."""

    pieces = 0

    def monotonic(self) -> float:
        if threading.current_thread() is threading.main_thread():
            return 0.0
        self.pieces += 1
        return 0.08 + 0.04 * self.pieces

    def time(self) -> float:
        return MOMENT

    def time_ns(self) -> int:
        _AnswerWatch.begun += 1
        return int(MOMENT) + _AnswerWatch.begun

    begun = 0


@pytest.fixture
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """UTC, Unicode, notices that stay, an engine that is never called silent."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LLMOPS_ASCII", "0")
    monkeypatch.setattr(app_module, "_NOTICE_SECONDS", _FOREVER)
    monkeypatch.setattr(state, "SILENT_SECONDS", _FOREVER)
    monkeypatch.setattr(sql, "time", _StoppedWatch)
    watch = _AnswerWatch()
    monkeypatch.setattr(chat, "time", watch)
    monkeypatch.setattr(chat_asking, "time", watch)
    monkeypatch.setattr(ConsoleApp, "here", "box")
    time.tzset()
    yield
    palette.use(PALETTES["dark"])
    monkeypatch.undo()
    time.tzset()


def still_engine(gpus: int = 0) -> FakeEngine:
    """Runs of every state, old ones, samples, notes, money; with GPUs: one held, one foreign, one ill, one with hidden memory."""
    engine = FakeEngine(old_runs=40, now=MOMENT, clock=lambda: MOMENT)
    engine.serving.kept = served(MOMENT)
    engine.specs = {run["id"]: TRAIN for run in (*engine.running, *engine.waiting, *engine.recent)}
    engine.capsule = {
        "git": {"commit": "0f1e2d3c", "branch": "main", "diff": None}, "driver": {"nvidia": "580.95.05"}, "seeds": {"seed": 17},
        "python": {"version": "3.11.7", "packages": {"torch": "2.9.1", "transformers": "5.20.0"}}, "host": {"name": "box"}, "env": {},
    }  # fmt: skip
    engine.predicted = an_estimate(memory_bytes=3 << 30)
    engine.measured = {"memory_bytes": 2_900_000_000, "seconds": 880.0}
    train = engine.running[0]
    train.update({"note": "twice the rate", "tags": ["sweep", "best"], "gpu_seconds": 880.0, "energy_joules": 5.4e5, "cost": 0.21})
    engine.recent[0].update({"baseline": True, "tags": ["sweep"]})
    texts = ("A way to train a few weights.", "An adapter: two small matrices beside a large one.", "An adapter of two small matrices.")
    engine.said[train["id"]] = [
        {"type": "sample", "offset": 10 * at, "t": MOMENT - 800 + 200 * at, "step": 100 * at, "prompt": "What is LoRA?", "text": text}
        for at, text in enumerate(texts, 1)
    ]
    serve = {"pid": 700, "memory_bytes": 30 << 30, "run": None, "owner": "bob", "command": "/opt/env/bin/python serve.py --port 8000"}
    cards = [
        gpu(0, held_by=[train["id"]], held_since=MOMENT - 880,
            holders=[{"run": train["id"], "owner": "ada", "since": MOMENT - 880}],
            processes=[{"pid": 600, "memory_bytes": 60 << 30, "run": train["id"], "owner": "ada", "command": "python train.py"}]),
        gpu(1, processes=[serve], memory_used_bytes=31 << 30, utilisation=0.41, power_watts=310.0),
        gpu(2, health="lost", reason="fell off the bus", utilisation=None, power_watts=None, memory_used_bytes=None, xid=[79],
            temperature_celsius=None),
        gpu(3, hidden_bytes=7 << 30, memory_used_bytes=7 << 30, utilisation=0.0, power_watts=71.0, temperature_celsius=38.0),
    ]  # fmt: skip
    engine.gpus = cards[:gpus]
    if gpus:
        train["gpus"] = ["GPU-0"]
    return engine


def other_box(name: str) -> Box:
    """Another box, with an engine of its own."""
    return Box(name, still_engine(2), None, lambda: "/home/ada", lambda ask: None, lambda: None)


def still_app(engine: FakeEngine) -> LlmopsApp:
    """The viewer, asked once and never again unless something hurries it."""
    viewer = LlmopsApp(engine, status_seconds=3600.0, boxes=other_box)
    viewer.state.host = "box"
    viewer.state.now = lambda: MOMENT
    return viewer


async def at_rest(pilot: Pilot[None]) -> None:
    """Until no question is on its way and the screen has not changed for a while; for writing pictures, not for tests."""
    shown, since = "", time.monotonic()
    while time.monotonic() - since < _QUIET_SECONDS:
        await pilot.pause(0.05)
        asking = any(thread.name == "llmops-tui-call" for thread in threading.enumerate())
        if asking or screen_text(pilot) != shown:
            shown, since = screen_text(pilot), time.monotonic()
