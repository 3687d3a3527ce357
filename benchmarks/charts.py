"""CPU of one redraw of the console's chart, beside textual-plot and plotext.

    python benchmarks/charts.py [--quick]

Four curves of 2,000 points at 120 × 30 cells with axes, legend, logarithmic y and crosshair: the raster alone, and the whole widget with
the strips that go to the terminal. The peers draw the same curves at the same size with axes and a vertical line, plotext with a logarithm,
textual-plot without (it has none). Then one spike in a million points, which must be seen at the top, and an overlay of 8 runs × 100,000
points: from the buckets the engine answers, and from every single point. Least CPU time of many rounds each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from peer_environment import peer_python
from textual.app import App, ComposeResult

from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chart_view import ChartView
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.raster import Drawing, Look, draw

WIDTH, HEIGHT = 120, 30
BARS = {"redraw_ms": 15.0, "overlay_ms": 300.0}
# plotext 6 has another interface; 5 is the one that textual-plotext and the consoles built on it use.
PEERS = ("textual-plot==0.10.1", "plotext==5.3.2")
RUNS, POINTS = 8, 100_000


def values(seed: int, count: int) -> list[float]:
    """A loss with noise; charts_peer.py makes the same."""
    noise = random.Random(seed)
    return [1.5 + 0.3 * seed + 2 * math.exp(-n / (count / 6)) + noise.gauss(0, 0.08) for n in range(count)]


def buckets_of(points: list[float], width: int) -> list[list[float | None]]:
    """What the engine answers: minimum, maximum, mean and last of each `width` points."""
    found: list[list[float | None]] = []
    for first in range(0, len(points), width):
        part = points[first : first + width]
        last = first + len(part) - 1
        found.append([first, last, len(part), min(part), max(part), sum(part) / len(part), part[-1], 1.75e9 + last])
    return found


def least_milliseconds(action: Callable[[], object], rounds: int) -> float:
    """The least CPU time of an action."""
    best = math.inf
    for _ in range(rounds):
        began = time.process_time()
        action()
        best = min(best, time.process_time() - began)
    return best * 1e3


class ChartApp(App[None]):
    """One chart on the whole terminal."""

    CSS = "BrailleChart { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield BrailleChart()


async def widget_milliseconds(curves: list[Curve], rounds: int) -> float:
    """CPU of what a key costs: the crosshair moves, everything is drawn, and each line becomes the strip that is sent."""
    app = ChartApp()
    async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
        chart = app.query_one(BrailleChart)
        chart.show(curves)
        await pilot.pause()
        places = iter(range(100, 100 + rounds + 1))

        def redraw() -> None:
            chart.restore(ChartView(log_y=True, crosshair=float(next(places) * 11 % 2000)))
            for y in range(HEIGHT):
                chart.render_line(y)

        redraw()
        return least_milliseconds(redraw, rounds)


def spike(points: int) -> tuple[float, bool]:
    """CPU of drawing one spike among many points, and whether it stands at the top."""
    flat = [1.0] * points
    flat[points * 7 // 10 + 1] = 50.0
    curve = Curve.from_points("loss", range(points), flat)
    drawings: list[Drawing] = []
    spent = least_milliseconds(lambda: drawings.append(draw([curve], Look(WIDTH, HEIGHT))), 3)
    top = "".join(text for row in drawings[-1].rows[1:4] for text, role in row if role == "series-0")
    return spent, any("\u2800" < character <= "\u28ff" for character in top)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and a tenth of the points for the peers' spike")
    quick = parser.parse_args().quick
    rounds = 30 if quick else 200
    curves = [Curve.from_buckets(f"run-{seed}", buckets_of(values(seed, 2000), 1)) for seed in range(4)]
    look = Look(WIDTH, HEIGHT, log_y=True, crosshair=667.0)
    raster = least_milliseconds(lambda: draw(curves, look), rounds)
    widget = asyncio.run(widget_milliseconds(curves, rounds))
    spike_ms, seen = spike(1_000_000)
    runs = [values(seed, POINTS) for seed in range(RUNS)]
    overlay: dict[str, float] = {}
    for name, width in (("buckets", POINTS // (4 * WIDTH)), ("points", 1)):
        answers = [buckets_of(run, width) for run in runs]

        def overlaid(answers: list[list[list[float | None]]] = answers) -> None:
            draw([Curve.from_buckets(f"run-{n}", answer) for n, answer in enumerate(answers)], Look(WIDTH, HEIGHT))

        overlay[name] = least_milliseconds(overlaid, 3 if quick else 10)
    script = [
        peer_python("charts", PEERS),
        Path(__file__).with_name("charts_peer.py"),
        "3" if quick else "15",
        "100000" if quick else "1000000",
    ]
    peers = json.loads(subprocess.run(list(map(str, script)), check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{'CPU ms':22}{'redraw':>10}{'spike in 1M':>14}{'seen':>6}   {WIDTH} × {HEIGHT}, 4 × 2,000 points")
    print(f"{'llmops-tui, widget':22}{widget:>10.1f}{spike_ms:>14.1f}{'yes' if seen else 'no':>6}   axes, legend, log y, crosshair, strips")
    print(f"{'llmops-tui, raster':22}{raster:>10.1f}")
    for name, peer in peers.items():
        note = "no logarithm, no legend" if name == "textual-plot" else "axes, logarithm, line"
        note += f"; spike in {peer['spike_points']:,} points" if peer["spike_points"] != 1_000_000 else ""
        print(f"{name:22}{peer['redraw_ms']:>10.1f}{peer['spike_ms']:>14.1f}{'yes' if peer['spike_seen'] else 'no':>6}   {note}")
    print(
        f"overlay of {RUNS} runs × {POINTS:,} points: {overlay['buckets']:.1f} ms from buckets, {overlay['points']:.1f} ms from every point"
    )
    fastest = min(peer["redraw_ms"] for peer in peers.values())
    holds = widget <= BARS["redraw_ms"] and max(overlay.values()) <= BARS["overlay_ms"] and seen
    answer = {
        "benchmark": "charts",
        "ours": {
            "redraw_ms": round(widget, 2), "raster_ms": round(raster, 2), "spike_ms": round(spike_ms, 1), "spike_seen": seen,
            "overlay_buckets_ms": round(overlay["buckets"], 1), "overlay_points_ms": round(overlay["points"], 1),
        },
        "peer": peers,
        "ratio": round(fastest / widget, 1),
        "bar": {**BARS, "spike_seen": True},
        "holds": holds,
    }  # fmt: skip
    print(json.dumps(answer))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
