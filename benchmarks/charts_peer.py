"""The peers' half of charts.py, run in their own environment: the same curves in textual-plot and in plotext, told as one JSON line."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time

import plotext
from textual.app import App
from textual_plot import HiResMode, PlotWidget

WIDTH, HEIGHT = 120, 30
COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white", "bright_blue")


def values(seed: int, count: int) -> list[float]:
    """The same curve as in charts.py."""
    noise = random.Random(seed)
    return [1.5 + 0.3 * seed + 2 * math.exp(-n / (count / 6)) + noise.gauss(0, 0.08) for n in range(count)]


class PlotApp(App[None]):
    """One textual-plot widget."""

    def compose(self):
        yield PlotWidget()


async def textual_plot_milliseconds(curves: list[list[float]], rounds: int) -> tuple[float, bool]:
    """Least CPU of one redraw with axes and a vertical line, in milliseconds; whether the top row of its canvas shows a curve."""
    app = PlotApp()
    async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
        await pilot.pause()
        widget = app.query_one(PlotWidget)
        for number, curve in enumerate(curves):
            widget.plot(range(len(curve)), curve, line_style=COLOURS[number], hires_mode=HiResMode.BRAILLE)
        widget.add_v_line(len(curves[0]) / 3)
        await pilot.pause()
        best = math.inf
        for _ in range(rounds):
            began = time.process_time()
            widget._rerender()
            widget.render()
            for canvas in widget.query("Canvas"):
                for y in range(canvas.size.height):
                    canvas.render_line(y)
            best = min(best, time.process_time() - began)
            await pilot.pause()
        canvas = widget.query_one("#plot")
        top = "".join(segment.text for y in (1, 2, 3) for segment in canvas.render_line(y))
        return best * 1e3, any("\u2800" < character <= "\u28ff" for character in top)


def plotext_milliseconds(curves: list[list[float]], rounds: int, log_y: bool) -> tuple[float, bool]:
    """Least CPU of one redraw with axes, logarithm and a vertical line, in milliseconds; whether its top rows show a curve."""
    best, text = math.inf, ""
    for _ in range(rounds):
        began = time.process_time()
        plotext.clf()
        plotext.plotsize(WIDTH, HEIGHT)
        if log_y:
            plotext.yscale("log")
        for number, curve in enumerate(curves):
            plotext.plot(curve, marker="braille", label=f"run-{number}")
        plotext.vline(len(curves[0]) / 3)
        text = plotext.build()
        best = min(best, time.process_time() - began)
    top = "\n".join(plotext.uncolorize(text).splitlines()[1:4])
    return best * 1e3, any("\u2800" < character <= "\u28ff" for character in top)


def main() -> int:
    rounds, spike_points = int(sys.argv[1]), int(sys.argv[2])
    curves = [values(seed, 2000) for seed in range(4)]
    flat = [1.0] * spike_points
    flat[spike_points * 7 // 10 + 1] = 50.0
    answer: dict[str, dict[str, object]] = {}
    answer["textual-plot"] = {"redraw_ms": asyncio.run(textual_plot_milliseconds(curves, rounds))[0]}
    answer["plotext"] = {"redraw_ms": plotext_milliseconds(curves, rounds, True)[0]}
    for name, (spent, seen) in (
        ("textual-plot", asyncio.run(textual_plot_milliseconds([flat], 1))),
        ("plotext", plotext_milliseconds([flat], 1, False)),
    ):
        answer[name].update(spike_ms=spent, spike_points=spike_points, spike_seen=seen)
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
