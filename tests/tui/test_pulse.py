"""Pulse shows the box, the runs and the selected curve, and keeps the selection whatever happens."""

from __future__ import annotations

import pytest

from llmops_tui.app import LlmopsApp
from llmops_tui.errors import UsageError
from llmops_tui.screens.farewell import farewell
from llmops_tui.screens.help import HelpScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.stop import StopScreen
from llmops_tui.screens.widgets.panels import event_line
from llmops_tui.specs.answers import EngineInfo, Status
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine, gpu, summary


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
async def test_the_essential_columns_of_a_run_are_whole_on_small_and_large_terminals(engine: FakeEngine, size: tuple[int, int]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "train/loss 1.4887" in words(pilot, "#loss"))
        line = next(line for line in screen_text(pilot).splitlines() if "train-fiqa-0003 " in line and "running" in line)
        for part in ("● running", "43%", "12m34s", "1.4887"):
            assert part in line
        assert " LIVE " in screen_text(pilot).splitlines()[0]
        assert "16 cores" in words(pilot, "#box")


async def test_a_lost_engine_is_said_and_found_again_with_the_selection_kept(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await until(pilot, lambda: app.state.selected == "train-fiqa-0003")
        await pilot.press("j", "j")
        assert app.state.selected == "evaluate-fiqa-0004"
        engine.lost = True
        await until(pilot, lambda: "RECONNECTING" in words(pilot, "#header"))
        assert "no engine runs" in words(pilot, "#foot")
        assert "train-fiqa-0003" in words(pilot, "#runs"), "what was known stays on the screen"
        started = engine.started
        engine.running.insert(0, summary("train-new-0009", "running"))
        engine.lost = False
        await until(pilot, lambda: "LIVE" in words(pilot, "#header") and "train-new-0009" in words(pilot, "#runs"))
        assert app.state.selected == "evaluate-fiqa-0004"
        assert engine.started == started, "a viewer finds the engine again but starts none by itself"


async def test_r_starts_an_engine_only_where_none_answers(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("r")
        engine.lost = True
        await until(pilot, lambda: not app.state.live)
        assert engine.started == 1
        await pilot.press("r")
        await until(pilot, lambda: engine.started == 2)


async def test_an_engine_that_never_answers_leaves_a_frame_that_says_so() -> None:
    app = LlmopsApp(FakeEngine(lost=True), status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "no engine runs" in words(pilot, "#foot"))
        assert "CONNECTING" in words(pilot, "#header")


async def test_stop_asks_first_and_escape_stops_nothing(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, StopScreen) and "train-fiqa-0003" in words(pilot, "#question"))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, StopScreen))
        assert engine.stops == []
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, StopScreen))
        await pilot.press("c")
        await until(pilot, lambda: engine.stops == [("train-fiqa-0003", "checkpoint")])


async def test_an_ended_run_cannot_be_stopped(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("G", "x")
        await until(pilot, lambda: "does not run" in words(pilot, "#foot"))
        assert not isinstance(app.screen, StopScreen)


async def test_c_asks_the_selected_run_for_a_checkpoint(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("c")
        await until(pilot, lambda: engine.checkpoints == ["train-fiqa-0003"])


async def test_m_and_y_change_the_chart(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "train/loss 1.4887" in words(pilot, "#loss"))
        await pilot.press("m")
        await until(pilot, lambda: "train/grad_norm" in words(pilot, "#loss"))
        await pilot.press("y")
        await until(pilot, lambda: "log y" in words(pilot, "#loss"))


async def test_enter_opens_the_run_and_escape_returns_to_the_same_row(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert app.screen.query_one("#title") is not None
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, RunScreen))
        assert app.state.selected == "command-prepare-0007"


async def test_question_mark_opens_the_help_and_q_only_closes_it(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        assert app.is_running


async def test_a_gpu_row_names_the_run_or_the_foreign_owner_and_a_lost_gpu(engine: FakeEngine) -> None:
    foreign = {"pid": 7, "memory_bytes": 30 << 30, "run": None, "owner": "bob", "command": "serve.py"}
    engine.gpus = [
        gpu(0, held_by=["train-fiqa-0003"]),
        gpu(1, processes=[foreign]),
        gpu(2, health="lost", reason="fell off the bus", utilisation=None, power_watts=None, memory_used_bytes=None),
    ]
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "train-fiqa-0003" in words(pilot, "#box"))
        lines = [line for line in screen_text(pilot).splitlines() if " GiB " in line]
        assert "612/700 W" in lines[0]
        assert "train-fiqa-0003" in lines[0]
        assert "bob: serve.py" in lines[1]
        assert "lost" in lines[2]
        assert "-/80 GiB" in lines[2]


async def test_an_ascii_terminal_gets_ascii_alone(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_ASCII", "1")
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "train/loss 1.4887" in words(pilot, "#loss"))
        assert screen_text(pilot).isascii()


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (300, 80)])
async def test_no_size_of_terminal_breaks_a_page(engine: FakeEngine, size: tuple[int, int]) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.state.live)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "train/loss 1.4887" in words(pilot, "#chart"))


async def test_events_of_the_stream_appear_as_they_come(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state.live)
        engine.stream.put({"seq": 1001, "t": 1.8e9, "type": "run.checkpoint", "run": "train-fiqa-0003", "data": {"step": 400}})
        await until(pilot, lambda: "checkpoint at step 400" in words(pilot, "#events"))
        told = {"command": "evaluate", "step": 401, "outcome": "scores the held-out rows", "by": "ada"}
        engine.stream.put({"seq": 1002, "t": 1.8e9, "type": "run.control", "run": "train-fiqa-0003", "data": told})
        await until(pilot, lambda: "evaluate at step 401: scores" in words(pilot, "#events"))


async def test_a_gpu_names_why_it_is_slow_and_that_somebody_unseen_holds_its_memory(engine: FakeEngine) -> None:
    engine.gpus = [
        gpu(0, throttle_reasons=["sw_thermal_slowdown"], held_by=["train-fiqa-0003"]),
        gpu(1, memory_used_bytes=18 << 30),
        gpu(2, processes=[{"pid": 7, "memory_bytes": 1 << 30, "run": None, "owner": "bob", "command": "/opt/env/bin/python serve.py"}]),
        gpu(3, processes=[{"pid": 8, "memory_bytes": 1 << 30, "run": None, "owner": "", "command": ""}]),
    ]
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: "train-fiqa-0003" in words(pilot, "#box"))
        lines = [line for line in words(pilot, "#box").splitlines() if "W" in line and "°C" in line]
        assert "sw thermal slowdown" in lines[0]
        assert "unlisted process" in lines[1]
        assert "bob: python serve.py" in lines[2]
        assert " pid 8 (1.0 GiB)" in lines[3], "a process of another container has neither owner nor command here"


def test_an_event_of_a_gpu_says_which_one_and_why() -> None:
    data = {"gpu": 1, "xid": 79, "meaning": "GPU has fallen off the bus"}
    xid = event_line({"seq": 1, "t": 0.0, "type": "gpu.xid", "run": None, "data": data})
    slow = event_line({"seq": 2, "t": 0.0, "type": "gpu.throttled", "run": None, "data": {"gpu": 0, "reasons": ["hw_slowdown"]}})
    assert xid[-1] == ("GPU 1 Xid 79: GPU has fallen off the bus", "bad")
    assert slow[-1] == ("GPU 0 throttled: hw slowdown", "warn")


async def test_why_no_engine_could_be_started_stays_on_the_screen() -> None:
    class Refusing(FakeEngine):
        statuses = 0

        def status(self) -> Status:
            self.statuses += 1
            return super().status()

        def ensure_engine(self) -> EngineInfo:
            raise UsageError("config.toml: engine.cpu_slots: should be a valid integer", "see docs/settings.md")

    failing = Refusing(lost=True)
    app = LlmopsApp(failing, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "cpu_slots" in words(pilot, "#runs"))
        await until(pilot, lambda: failing.statuses >= 3)  # whose errors tell less
        assert "engine.cpu_slots: should be a valid integer; see docs/settings.md" in " ".join(words(pilot, "#runs").split())


async def test_a_few_rows_of_terminal_show_the_runs_with_their_numbers(engine: FakeEngine) -> None:
    engine.running.insert(0, summary("train-a-very-long-name-indeed-0042", "running"))
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(40, 10)) as pilot:
        await until(pilot, lambda: "-0042 ● running" in screen_text(pilot))
        assert "-0003" in screen_text(pilot)


async def test_the_reason_of_a_waiting_run_takes_the_room_to_its_right(engine: FakeEngine) -> None:
    engine.waiting[0]["reason"] = "waits for a CPU slot: all taken"
    engine.waiting[0]["latest"], engine.waiting[0]["progress"] = {}, None
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "waits for a CPU slot: all taken" in words(pilot, "#runs"))


def test_the_farewell_names_what_goes_on_though_the_engine_is_gone() -> None:
    one = summary("train-a-0001", "running")
    told = farewell([one], 2, live=False)
    assert "train-a-0001 goes on without it" in told
    assert "2 wait until it is back" in told
    assert "nothing ran" in farewell([], 0, live=False)


def test_the_farewell_says_what_keeps_running() -> None:
    one, two = summary("train-a-0001", "running"), summary("train-b-0002", "running")
    assert farewell([one, two], 1) == (
        "2 jobs keep running (train-a-0001, train-b-0002), 1 waits in the queue; `llmops-tui` brings you back"
    )
    assert farewell([one], 0).startswith("1 job keeps running (train-a-0001);")
    assert farewell([], 0).startswith("nothing runs")
