"""Other boxes' engines: going to them and back, and several side by side, on engines made of memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from llmops_tui.app import LlmopsApp
from llmops_tui.errors import EngineUnavailableError, UsageError
from llmops_tui.reach import Box
from llmops_tui.screens.hosts import HostColumn, HostsScreen, wrong_hosts
from llmops_tui.screens.pulse import PulseScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.specs.answers import Status
from llmops_tui.specs.console import ConsoleSettings
from llmops_tui.ssh_words import LinkError, QuestionError
from tests.tui.driving import screen_text, until, words
from tests.tui.fake import FakeEngine, gpu, summary


class OtherBoxes:
    """Boxes made of memory; `refusals` says why one cannot be reached."""

    def __init__(self, **engines: FakeEngine) -> None:
        self.engines = engines
        self.refusals: dict[str, Exception] = {}
        self.asked: list[tuple[str, bool]] = []
        self.closed: list[str] = []
        self.directory: Path | None = None

    def __call__(self, name: str) -> Box:
        if name.startswith("-"):
            raise UsageError(f"{name!r} is no host", "use --host BOX or --host USER@BOX")
        engine = self.engines.get(name) or FakeEngine(lost=True)
        view = self.directory / f"{name}.json" if self.directory else None
        return Box(name, engine, view, lambda: "/home/ada", self._connector(name), lambda: self.closed.append(name))

    def _connector(self, name: str) -> Callable[[bool], object]:
        def connect(ask: bool) -> None:
            self.asked.append((name, ask))
            refusal = self.refusals.get(name) or (None if name in self.engines else LinkError(f"no box {name} is known here"))
            if refusal and not (ask and isinstance(refusal, QuestionError)):
                raise refusal

        return connect


def engine_with(run_id: str) -> FakeEngine:
    """One that has a single run."""
    made = FakeEngine(running=[summary(run_id, "running", latest={"train/loss": 0.5})])
    made.waiting, made.recent = [], []
    return made


async def type_command(pilot: Pilot[None], line: str) -> None:
    """A line of the `:` prompt."""
    await pilot.press("colon", *("space" if key == " " else "minus" if key == "-" else key for key in line), "enter")


async def columns_of(pilot: Pilot[None], count: int) -> list[HostColumn]:
    """The columns of the page of several boxes, once they are there."""
    await until(pilot, lambda: isinstance(pilot.app.screen, HostsScreen) and len(pilot.app.screen.query(HostColumn)) == count)
    return list(pilot.app.screen.query(HostColumn))


async def test_host_goes_to_the_other_box_and_alone_comes_back(engine: FakeEngine) -> None:
    boxes = OtherBoxes(gpubox=engine_with("train-over-0009"))
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "train-fiqa-0003" in words(pilot, "#runs"))
        await type_command(pilot, "host gpubox")
        await until(pilot, lambda: "train-over-0009" in screen_text(pilot))
        assert "ssh gpubox (node-7)" in words(pilot, "#header")
        assert "train-fiqa-0003" not in screen_text(pilot)
        await pilot.press("x", "n")
        await until(pilot, lambda: boxes.engines["gpubox"].stops == [("train-over-0009", "now")])
        assert engine.stops == []
        await type_command(pilot, "host")
        await until(pilot, lambda: "train-fiqa-0003" in words(pilot, "#runs"))
        assert os.uname().nodename in words(pilot, "#header")
    assert boxes.closed == ["gpubox"]


async def test_each_box_keeps_its_own_page_selection_and_filter(engine: FakeEngine, tmp_path: Path) -> None:
    boxes = OtherBoxes(gpubox=engine_with("train-over-0009"))
    boxes.directory = tmp_path
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("j")
        await until(pilot, lambda: app.state.selected == "command-prepare-0007")
        await type_command(pilot, "host gpubox")
        await until(pilot, lambda: app.state.selected == "train-over-0009")
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.board(), RunsScreen))
        await type_command(pilot, "host")
        await until(pilot, lambda: isinstance(app.screen, PulseScreen) and app.state.live)
        await until(pilot, lambda: app.state.selected == "command-prepare-0007")
        await type_command(pilot, "host gpubox")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and "train-over-0009" in screen_text(pilot))
    assert (tmp_path / "gpubox.json").exists()


async def test_nothing_of_the_box_before_is_drawn_after_a_move(engine: FakeEngine) -> None:
    class Late(FakeEngine):
        """Its answer is on the way when one leaves, and comes when one is elsewhere."""

        def status(self) -> Status:
            status = super().status()
            if held.is_set():
                answers.wait(10)
                answered.set()
            return status

    held, answers, answered = threading.Event(), threading.Event(), threading.Event()
    over = engine_with("train-over-0009")
    late = Late()
    app = LlmopsApp(late, status_seconds=0.01, boxes=OtherBoxes(gpubox=over))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        held.set()
        await type_command(pilot, "host gpubox")
        await until(pilot, lambda: "train-over-0009" in screen_text(pilot))
        answers.set()
        late.stream.put({"seq": 1, "t": 1.8e9, "type": "run.checkpoint", "run": "train-fiqa-0003", "data": {"step": 400}})
        await until(pilot, lambda: answered.is_set() and late.stream.empty())
        seen = over.calls
        await until(pilot, lambda: over.calls > seen + 2)
        assert "train-fiqa-0003" not in screen_text(pilot)
        assert [run["id"] for run in app.state.runs()] == ["train-over-0009"]


async def test_a_box_out_of_reach_leaves_one_where_one_is_and_says_why(engine: FakeEngine) -> None:
    boxes = OtherBoxes()
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        await type_command(pilot, "host nowhere")
        await until(pilot, lambda: "no box nowhere is known here" in words(pilot, "#foot"))
        assert boxes.closed == ["nowhere"]
        assert "train-fiqa-0003" in words(pilot, "#runs")
        app.go_to_host("-oProxyCommand=true")
        await until(pilot, lambda: "is no host" in words(pilot, "#foot"))


async def test_ssh_may_ask_only_where_the_terminal_can_be_lent(engine: FakeEngine) -> None:
    boxes = OtherBoxes(gpubox=engine_with("train-over-0009"))
    boxes.refusals["gpubox"] = QuestionError("gpubox accepted no key or password of yours", "try `ssh gpubox`")
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.go_to_host("gpubox")  # a test's terminal cannot be lent
        await until(pilot, lambda: "accepted no key" in words(pilot, "#foot"))
        assert boxes.asked == [("gpubox", False)]


async def test_hosts_shows_boxes_side_by_side_and_one_out_of_reach_says_why(engine: FakeEngine) -> None:
    first = engine_with("train-over-0009")
    first.gpus = [gpu(0), gpu(1, utilisation=0.5)]
    boxes = OtherBoxes(first=first, second=engine_with("train-there-0011"))
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: app.state.live)
        await type_command(pilot, "hosts here first second third")
        columns = await columns_of(pilot, 4)
        await until(pilot, lambda: all(column.state.live for column in columns[:3]) and columns[3].state.reason)
        assert [column.region.y for column in columns] == [columns[0].region.y] * 4
        here, one, two, three = (column.plain for column in columns)
        assert "train-fiqa-0003" in here
        assert "93%" in one
        assert "61/80 GiB" in one
        assert "train-over-0009" in one
        assert "loss 0.5" in one
        assert "train-there-0011" in two
        assert "cpu" in two
        assert "CONNECTING" in three
        assert "no engine runs" in " ".join(three.split())
        assert [name for name, _ in boxes.asked] == [], "a look at a box starts no engine"


async def test_enter_goes_to_the_box_that_is_meant(engine: FakeEngine) -> None:
    boxes = OtherBoxes(first=engine_with("train-over-0009"), second=engine_with("train-there-0011"))
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        await type_command(pilot, "hosts first second")
        columns = await columns_of(pilot, 2)
        await until(pilot, lambda: all(column.state.live for column in columns))
        await pilot.press("l", "enter")
        await until(pilot, lambda: isinstance(app.screen, PulseScreen) and "train-there-0011" in screen_text(pilot))
        assert "ssh second" in words(pilot, "#header")


async def test_a_box_lost_beside_others_keeps_its_last_answer_and_says_so(engine: FakeEngine) -> None:
    first = engine_with("train-over-0009")
    app = LlmopsApp(engine, status_seconds=0.05, boxes=OtherBoxes(first=first, second=engine_with("train-there-0011")))
    async with app.run_test(size=(60, 24)) as pilot:
        app.show_hosts(["first", "second"])
        one, two = await columns_of(pilot, 2)
        await until(pilot, lambda: one.state.live and two.state.live)
        assert one.region.x == two.region.x, "stacked on a narrow terminal"
        first.lost = True
        await until(pilot, lambda: "RECONNECTING" in one.plain)
        assert "train-over-0009" in one.plain
        assert "LIVE" in two.plain
        first.lost = False
        await pilot.press("R")
        await until(pilot, lambda: "LIVE" in one.plain)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, PulseScreen))


@pytest.mark.parametrize("size", [(80, 24), (160, 45), (30, 8)])
async def test_eight_boxes_fit_any_terminal(engine: FakeEngine, size: tuple[int, int]) -> None:
    names = [f"box{number}" for number in range(8)]
    app = LlmopsApp(engine, status_seconds=0.05, boxes=OtherBoxes(**{name: engine_with(f"train-{name}-0001") for name in names}))
    async with app.run_test(size=size) as pilot:
        app.show_hosts(names)
        columns = await columns_of(pilot, 8)
        await until(pilot, lambda: all(column.state.live for column in columns))
        for name in names:
            await until(pilot, lambda name=name: name in screen_text(pilot))  # type: ignore[misc]  # mypy#15459
            await pilot.press("j")


def test_a_list_of_boxes_that_cannot_be_shown_is_refused_in_one_line() -> None:
    assert "name the boxes" in wrong_hosts([])
    assert "at most 8" in wrong_hosts([f"box{number}" for number in range(9)])
    assert "is no host" in wrong_hosts(["box", "-oProxyCommand=true"])
    assert wrong_hosts(["here", "me@box"]) == ""


async def test_hosts_alone_shows_those_of_the_settings_and_stands_again_after_a_lost_terminal(engine: FakeEngine) -> None:
    boxes = OtherBoxes(first=engine_with("train-over-0009"))
    app = LlmopsApp(engine, status_seconds=0.05, boxes=boxes, settings=ConsoleSettings(hosts=("here", "first")))
    async with app.run_test(size=(120, 30)) as pilot:
        app.show_hosts([])
        await columns_of(pilot, 2)
    again = LlmopsApp(engine, status_seconds=0.05, boxes=boxes, view=app.view)
    async with again.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(again.screen, HostsScreen) and "train-over-0009" in screen_text(pilot))


async def test_a_page_on_top_is_left_behind_with_its_box(engine: FakeEngine) -> None:
    app = LlmopsApp(engine, status_seconds=0.05, boxes=OtherBoxes(gpubox=engine_with("train-over-0009")))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: app.state.selected)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await type_command(pilot, "host gpubox")
        await until(pilot, lambda: isinstance(app.screen, PulseScreen) and "train-over-0009" in screen_text(pilot))
        engine.lost = True
        assert app.state.live
        with pytest.raises(EngineUnavailableError):
            engine.status()
