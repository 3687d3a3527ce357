"""A chart under the keys and the mouse: what each does to what is drawn, and what it asks of the screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from llmops_tui.keys import KEYS
from llmops_tui.screens.linked import LinkedCharts, LinkedGroup, history_groups
from llmops_tui.screens.widgets import chart as chart_module
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.marks import Mark
from tests.tui.driving import until
from tests.tui.fake import NOW, FakeEngine


def when(step: float) -> float:
    """The moment the fake engine's run reached a step."""
    return NOW - 880 + 2 * step


MARKS = [Mark("checkpoint", 200.0, when(200), "200"), Mark("checkpoint", 400.0, when(400), "400"), Mark("retry", None, when(300), "2")]


class ChartApp(App[None]):
    """A chart and, hidden at first, the linked charts; it notes what they ask for."""

    CSS = "BrailleChart, LinkedCharts { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.ascii_only = False
        self.wanted: list[tuple[int, int]] = []
        self.linked: list[float | None] = []
        self.spans: list[tuple[float, float]] = []

    def compose(self) -> ComposeResult:
        yield BrailleChart(id="chart")
        yield LinkedCharts(id="linked")

    def on_mount(self) -> None:
        self.query_one(LinkedCharts).display = False
        self.chart.focus()

    @property
    def chart(self) -> BrailleChart:
        return self.query_one("#chart", BrailleChart)

    def on_braille_chart_window_wanted(self, message: BrailleChart.WindowWanted) -> None:
        self.wanted.append((message.first, message.last))

    def on_braille_chart_linked_wanted(self, message: BrailleChart.LinkedWanted) -> None:
        self.linked.append(message.moment)

    def on_linked_charts_history_wanted(self, message: LinkedCharts.HistoryWanted) -> None:
        self.spans.append((message.start, message.end))


def curves(engine: FakeEngine) -> list[Curve]:
    answers = engine.series("train-fiqa-0003", ["train/loss", "eval/loss"], points=1000)
    return [Curve.from_buckets(series["metric"], series["buckets"]) for series in answers]


@pytest.fixture
def app(engine: FakeEngine) -> ChartApp:
    return ChartApp()


async def shown(app: ChartApp, engine: FakeEngine, pilot: Pilot[None]) -> BrailleChart:
    app.chart.show(curves(engine), MARKS, of="train-fiqa-0003")
    await until(pilot, lambda: "loss" in app.chart.plain)
    return app.chart


@contextmanager
def draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    counted: list[int] = []
    true_draw = chart_module.draw
    monkeypatch.setattr(chart_module, "draw", lambda *args: counted.append(1) or true_draw(*args))
    yield counted


@pytest.mark.parametrize("size", [(80, 24), (160, 45), (20, 5)])
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_every_key_of_a_chart_does_something_and_leaves_it_readable(
    engine: FakeEngine, size: tuple[int, int], ascii_only: bool
) -> None:
    app = ChartApp()
    app.ascii_only = ascii_only
    async with app.run_test(size=size) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.press("h", "plus", "plus")
        for key in (key for key in KEYS if key.where == "chart"):
            for name in key.keys:
                chart.restore(ChartView(window=(100.0, 300.0), crosshair=250.0))
                before = (chart.view, len(app.linked))
                await pilot.press(name)
                await pilot.pause()
                assert (chart.view, len(app.linked)) != before, key.id
                lines = chart.plain.splitlines()
                assert {len(line) for line in lines} == {chart.size.width}, key.id
                assert not ascii_only or chart.plain.isascii(), key.id


async def test_zoom_follows_the_crosshair_and_zero_shows_everything(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        chart.restore(ChartView(crosshair=300.0))
        await pilot.press("plus", "plus")
        window = chart.view.window
        assert window is not None
        assert window[0] < 300 < window[1]
        assert window[1] - window[0] == pytest.approx(411 / 4)
        await pilot.press("H")
        assert chart.view.window is not None
        assert chart.view.window[0] < window[0]
        await pilot.press("0")
        assert chart.view.window is None


async def test_a_window_at_the_newest_step_follows_the_run(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.press("h", "plus", "plus")
        assert chart.view.follow
        before = chart.view.window
        longer = [Curve.from_buckets(c.name, [*c.buckets, [500, 500, 1, 1.4, 1.4, 1.4, 1.4, NOW + 500]]) for c in curves(engine)]
        chart.show(longer, MARKS, of="train-fiqa-0003")
        assert chart.view.window is not None
        assert before is not None
        assert chart.view.window[1] == 500
        assert chart.view.window[1] - chart.view.window[0] == pytest.approx(before[1] - before[0])


async def test_another_metric_keeps_the_window_and_another_run_does_not(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.press("plus")
        window = chart.view.window
        other = [Curve.from_buckets("train/grad_norm", curves(engine)[0].buckets)]
        chart.show(other, of="train-fiqa-0003")
        assert chart.view.window == window
        chart.show(other, of="train-fiqa-0002")
        assert chart.view.window is None


async def test_finer_buckets_are_asked_for_once_and_shown(app: ChartApp, engine: FakeEngine) -> None:
    coarse = [[n, n + 99, 100, 1.0, 3.0, 2.0, 2.0, NOW + n] for n in range(0, 100_000, 100)]
    async with app.run_test(size=(100, 24)) as pilot:
        chart = app.chart
        chart.show([Curve.from_buckets("train/loss", coarse)], of="a")
        await pilot.pause()
        assert app.wanted == [], "everything shown needs nothing finer"
        for _ in range(6):
            await pilot.press("plus")
        await until(pilot, lambda: app.wanted)
        first, last = app.wanted[-1]
        window = chart.view.window
        assert window is not None
        assert first < window[0] < window[1] < last
        fine = [[n, n, 1, 2.0 + n % 2, 2.0 + n % 2, 2.0 + n % 2, 2.0, NOW + n] for n in range(first, last + 1)]
        asked = len(app.wanted)
        chart.refine([Curve.from_buckets("train/loss", fine), Curve.from_buckets("gone", fine)])
        chart.show([Curve.from_buckets("train/loss", [*coarse, [100_000, 100_000, 1, 2.0, 2.0, 2.0, 2.0, NOW]])], of="a")
        await pilot.press("y", "y")
        assert len(app.wanted) == asked, "what came is fine enough; the next status asks for nothing"
        await pilot.press("L", "L", "L", "L", "L", "L", "L", "L")
        await until(pilot, lambda: len(app.wanted) > asked)


async def test_the_time_axis_shows_the_same_stretch(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        chart.restore(ChartView(window=(100.0, 200.0), crosshair=150.0))
        await pilot.press("w")
        assert chart.view.axis == "time"
        assert chart.view.window == (when(100), when(200))
        assert chart.moment == when(150)
        await pilot.press("w")
        assert chart.view.axis == "elapsed"
        assert chart.view.window == pytest.approx((198.0, 398.0))
        assert "at 4m58s" in chart.plain
        await pilot.press("w")
        assert (chart.view.axis, chart.view.window) == ("step", (100.0, 200.0))


async def test_smoothing_clipping_and_log_are_told(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.press("v")
        assert "ema 0.6" in chart.plain
        await pilot.press("v")
        assert "ema 0.9" in chart.plain
        await pilot.press("v", "e", "y")
        assert "ema" not in chart.plain
        assert "above" in chart.plain or "no outliers" in chart.plain
        assert "log y" in chart.plain


async def test_brackets_go_from_event_to_event(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        visited = []
        for _ in range(3):
            await pilot.press("right_square_bracket")
            visited.append(round(chart.view.crosshair or 0))
        assert visited == [200, 300, 400]
        assert "checkpoint 400" in chart.plain
        await pilot.press("left_square_bracket")
        assert "retry 2" in chart.plain


async def test_the_wheel_zooms_a_drag_selects_and_a_click_sets_the_crosshair(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.click("#chart", offset=(50, 10))
        crosshair = chart.view.crosshair
        assert crosshair is not None
        assert 180 < crosshair < 230
        await pilot.mouse_down("#chart", offset=(30, 10))
        await pilot.hover("#chart", offset=(60, 12))
        assert len([1 for row in chart._lines[5] if row[1] == "cross"]) >= 1, "the stretch is shown while the mouse is down"
        await pilot.mouse_up("#chart", offset=(60, 12))
        await pilot.pause()
        window = chart.view.window
        assert window is not None
        assert window[0] == pytest.approx(411 * 25 / 95, abs=8)
        assert window[1] == pytest.approx(411 * 55 / 95, abs=8)
        assert chart.view.crosshair == crosshair, "the end of a drag is no click"
        await pilot.click("#chart", offset=(50, 10), times=2)
        assert chart.view.window is None


async def test_the_wheel_zooms_around_the_pointer(app: ChartApp, engine: FakeEngine) -> None:
    from textual.events import MouseScrollDown, MouseScrollUp

    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        options = {"x": 90, "y": 10, "delta_x": 0, "delta_y": 0, "button": 0, "shift": False, "meta": False, "ctrl": False}
        chart.post_message(MouseScrollUp(chart, **options, screen_x=90, screen_y=10))
        await pilot.pause()
        window = chart.view.window
        assert window is not None
        assert window[0] > 411 - window[1], "around the pointer at the right"
        chart.post_message(MouseScrollDown(chart, **options, screen_x=90, screen_y=10))
        await pilot.pause()
        assert chart.view.window is None


async def test_a_view_restored_before_the_curves_come_is_shown_when_they_do(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        saved = ChartView(window=(100.0, 200.0), crosshair=150.0, log_y=True, smoothing=0.6)
        app.chart.restore(ChartView.from_json(saved.to_json()))
        app.chart.show([], of="train-fiqa-0003")
        chart = await shown(app, engine, pilot)
        assert chart.view == saved
        assert "at step 150" in chart.plain


async def test_the_same_data_is_not_drawn_again(app: ChartApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app.run_test(size=(100, 24)) as pilot:
        chart = await shown(app, engine, pilot)
        await pilot.pause()
        with draws(monkeypatch) as counted:
            chart.show(curves(engine), MARKS, of="train-fiqa-0003")
            assert counted == []


async def test_one_crosshair_goes_through_all_linked_charts(app: ChartApp, engine: FakeEngine) -> None:
    history = engine.host_history(start=NOW - 900, end=NOW)
    async with app.run_test(size=(100, 40)) as pilot:
        linked = app.query_one(LinkedCharts)
        app.chart.display = False
        linked.display = True
        await pilot.pause()
        linked.show([LinkedGroup("loss", tuple(curves(engine)), tuple(MARKS)), *history_groups(history)], of="train-fiqa-0003")
        linked.focus_top()
        await until(pilot, lambda: "host %" in linked.charts[1].plain)
        spike = linked.group.moment
        assert spike is not None
        visible = [chart for chart in linked.charts if chart.display]
        assert len(visible) == 3
        assert {round(chart.moment or 0, 3) for chart in visible} == {round(spike, 3)}
        assert {chart._drawing.left for chart in visible} == {visible[0]._drawing.left}, "one column is one moment in all of them"
        await pilot.press("h")
        assert len({round(chart.moment or 0, 3) for chart in visible}) == 1
        assert visible[0].moment != spike
        await pilot.press("plus")
        assert len({chart.view.window for chart in visible}) == 1
        await until(pilot, lambda: app.spans)
        assert app.spans[-1] == visible[0].view.window
        await pilot.press("o")
        assert [chart.view.crosshair for chart in visible] == [None] * 3
        await pilot.click("#linked-2", offset=(50, 3))
        assert len({round(chart.moment or 0, 3) for chart in visible}) == 1
        assert linked.group.moment is not None


async def test_a_small_terminal_names_the_linked_charts_that_do_not_fit(app: ChartApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(60, 12)) as pilot:
        linked = app.query_one(LinkedCharts)
        app.chart.display = False
        linked.display = True
        await pilot.pause()
        linked.show([LinkedGroup("loss", tuple(curves(engine))), *history_groups(engine.host_history(start=NOW - 900, end=NOW))], of="a")
        await until(pilot, lambda: linked.charts[0].display)
        assert [chart.display for chart in linked.charts][:3] == [True, False, False]
        assert "load, memory" in linked.query_one(".untold").plain  # type: ignore[attr-defined]
