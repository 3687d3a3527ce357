"""Leaving is always immediate, and nothing that is pressed in any order breaks the viewer."""

from __future__ import annotations

import os
import pty
import random
import select
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from textual.events import Key

from llmops_tui.app import LlmopsApp
from llmops_tui.screens import state as state_module
from llmops_tui.specs.answers import Status
from tests.tui.driving import until, words
from tests.tui.fake import FakeEngine
from tests.tui.random_acts import LOSE, key_event, random_acts
from tests.tui.still import still_engine

ACTIONS = 350


class HangingEngine(FakeEngine):
    """Like a stopped process behind an open socket: after the first answer, calls wait until it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.hangs = False

    def status(self) -> Status:
        if self.hangs:
            self.goes_on.wait(60)
        return super().status()


async def test_an_engine_that_hangs_is_said_to_be_silent_and_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "SILENT_SECONDS", 0.5)
    engine = HangingEngine()
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.live)
        engine.hangs = True
        await until(pilot, lambda: "SILENT" in words(pilot, "#header") and "does not answer" in words(pilot, "#foot"))
        engine.hangs = False
        engine.goes_on.set()
        await until(pilot, lambda: "LIVE" in words(pilot, "#header"))


@pytest.mark.parametrize("keys", [("q", "5"), ("q", "3", "4", "n"), ("enter", "q"), ("2", "q", "2"), ("colon", "q", "enter", "5")])
async def test_keys_typed_at_once_around_leaving_break_nothing(engine: FakeEngine, keys: tuple[str, ...]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        for key in keys:
            app.post_message(Key(key, key if len(key) == 1 else ":" if key == "colon" else None))
        await until(pilot, lambda: not app.is_running or app._exit)
    assert app.return_code == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_keys_pastes_clicks_and_resizes_raise_nothing(
    seed: int, no_time_passes: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On every page, with the engine lost and back; `python benchmarks/random_keys.py` goes on for longer, on a real terminal."""
    monkeypatch.chdir(tmp_path)
    dice = random.Random(seed)
    engine = still_engine(4)
    app = LlmopsApp(engine, status_seconds=0.2)
    monkeypatch.setattr(app, "exit", lambda *args, **options: None)
    trail: list[str] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        for number in range(ACTIONS):
            for act in random_acts(dice, app.size):
                trail.append(repr(act)[:80])
                if isinstance(act, tuple):
                    await pilot.resize_terminal(*act)
                elif act is LOSE:
                    engine.lost = not engine.lost
                else:
                    app.post_message(act)
            if number % 4 == 0:
                await pilot.pause()
            assert app._exception is None, "\n".join(trail[-30:])
        engine.lost = False
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: app.state.live)
        assert app.is_running


def test_q_leaves_at_once_though_a_call_hangs_and_says_what_keeps_running() -> None:
    program = textwrap.dedent("""
        import sys, threading
        from tests.tui.fake import FakeEngine
        from llmops_tui.app import run_app
        engine = FakeEngine()
        engine.series = lambda *args, **options: threading.Event().wait(300)
        sys.exit(run_app(engine))
    """)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", program], {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})
    seen, deadline, pressed = b"", time.monotonic() + 30, False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
        if b"LIVE" in seen and not pressed:
            os.write(terminal, b"q")
            pressed = True
    else:
        os.kill(pid, 9)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, seen.decode(errors="replace")[-2000:]
    assert "2 jobs keep running (train-fiqa-0003, command-prepare-0007), 2 wait in the queue" in seen.decode(errors="replace")


@pytest.mark.parametrize("burst", [("enter", "m", "f", "p"), ("enter", "escape", "escape"), ("x", "n", "escape"), ("apostrophe", "a", "a")])
async def test_keys_typed_in_one_burst_meet_whole_pages_and_answer_once(engine: FakeEngine, burst: tuple[str, ...]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.live and app.state.selected)
        for name in burst:
            app.post_message(key_event(name))
        await pilot.pause()
        await until(pilot, lambda: len(app.screen_stack) == (3 if "p" in burst else 1))
        if "x" in burst:
            await until(pilot, lambda: engine.stops)
        assert len(engine.stops) == ("x" in burst)
