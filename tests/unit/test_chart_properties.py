"""Whatever the curve, the chart draws it: nothing is lost, nothing raises, every row has its width."""

from __future__ import annotations

import math
import random

import pytest

from llmops_tui.screens.widgets.axes import Scale
from llmops_tui.screens.widgets.curve import ELAPSED, STEP, TIME, Curve
from llmops_tui.screens.widgets.marks import Mark
from llmops_tui.screens.widgets.raster import Drawing, Look, draw

_LEFT_BITS, _RIGHT_BITS = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
ODD = (math.nan, math.inf, -math.inf, None, 0.0, -1.0, 1e308, -1e308, 5e-324, 1e-300, 3.0)


def text(drawing: Drawing) -> list[str]:
    return ["".join(part for part, _ in row) for row in drawing.rows]


def dots(drawing: Drawing, legend_rows: int) -> list[set[int]]:
    """The dot rows set in each dot column, 0 at the bottom."""
    rows = [row[drawing.left :] for row in text(drawing)[legend_rows:-2]]
    columns: list[set[int]] = [set() for _ in range(2 * drawing.columns)]
    for number, row in enumerate(rows):
        for cell, character in enumerate(row):
            for side, bits in enumerate((_LEFT_BITS, _RIGHT_BITS)):
                for down, bit in enumerate(bits):
                    if "\u2800" <= character <= "\u28ff" and (ord(character) - 0x2800) & bit:
                        columns[2 * cell + side].add(4 * len(rows) - 1 - (4 * number + down))
    return columns


@pytest.mark.parametrize("seed", range(12))
def test_every_dot_column_shows_the_least_and_the_most_of_its_points(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.choice((30, 300, 5000, 20_000))
    x = sorted(rng.sample(range(10 * count), count))
    log_y = seed % 2 == 1
    values = [math.exp(rng.gauss(0, 2)) * (1 if log_y else rng.choice((-1, 1))) for _ in x]
    first, last = x[0], x[-1]
    window = (first + (last - first) * 0.3, first + (last - first) * 0.4) if seed % 3 == 2 else (float(first), float(last))
    drawing = draw([Curve.from_points("a", x, values)], Look(70, 24, log_y=log_y, window=window))
    shown = dots(drawing, 1)
    x_scale = Scale(*window, 2 * drawing.columns)
    y_scale = Scale(drawing.y_low, drawing.y_high, 4 * (24 - 3))
    by_column: dict[int, list[float]] = {}
    for at, value in zip(x, values, strict=True):
        if window[0] <= at <= window[1]:
            by_column.setdefault(x_scale.dot(at), []).append(value)
    assert by_column
    for column, inside in by_column.items():
        for value in (min(inside), max(inside)):
            assert y_scale.dot(math.log10(value) if log_y else value) in shown[column], (column, value)


@pytest.mark.parametrize("seed", range(40))
def test_odd_values_sizes_windows_and_looks_raise_nothing_and_keep_the_width(seed: int) -> None:
    rng = random.Random(seed)
    curves = []
    for number in range(rng.randrange(0, 12)):
        count = rng.choice((0, 1, 2, 3, 50, 900))
        values = [rng.choice(ODD) if rng.random() < 0.3 else rng.gauss(0, 10.0 ** rng.randrange(-9, 9)) for _ in range(count)]
        curves.append(Curve.from_points(f"räd/{number}\x1b\n" * rng.randrange(1, 5), list(range(count)), values))
    smooth = [curve.smoothed(0.9) for curve in curves] if rng.random() < 0.3 else []
    for _ in range(12):
        low = rng.uniform(-50, 900)
        look = Look(
            rng.randrange(0, 180), rng.randrange(0, 50), log_y=rng.random() < 0.5, crosshair=rng.choice((None, 3.0, low, 1e9)),
            marks=((2.0, Mark("checkpoint", 2.0, None, "2")), (low, Mark("alarm", low, text="x" * 40))), ascii_only=rng.random() < 0.4,
            axis=rng.choice((STEP, TIME, ELAPSED, "number")), window=rng.choice((None, (low, low + 10 ** rng.uniform(-6, 3)))),
            selection=rng.choice((None, (low, 5.0))), clip=rng.random() < 0.5, smoothing=0.9 if smooth else 0.0, gutter=rng.choice((0, 7)),
            x_axis=rng.random() < 0.7, digits=rng.random() < 0.3,
        )  # fmt: skip
        drawing = draw(curves, look, smooth)
        assert [len(row) for row in text(drawing)] == [look.width] * look.height, look
        for cell in (-5, 0, look.width // 2, look.width + 5):
            x = drawing.x_at(cell)
            assert not drawing.columns or drawing.x_low <= x <= drawing.x_high


def test_the_line_into_a_window_comes_from_the_point_before_it() -> None:
    drawing = draw([Curve.from_points("a", [0, 100], [0.0, 100.0])], Look(60, 20, window=(40.0, 60.0)))
    shown = dots(drawing, 1)
    assert all(column for column in shown), "the line crosses the whole window although no point is in it"
    assert min(shown[0]) < min(shown[-1])
    gap = draw([Curve.from_points("a", [0, 50, 100], [0.0, math.nan, 100.0])], Look(60, 20, window=(40.0, 60.0)))
    assert "no points in this window" in "\n".join(text(gap))


def test_the_logarithm_of_a_bucket_keeps_what_is_positive_in_it() -> None:
    curve = Curve.of("a", [(0, 1.0, 1.0, 1.0), (1, -2.0, 8.0, -1.0), (2, 0.0, 0.0, 0.0), (3, 4.0, 4.0, 4.0)])
    drawing = draw([curve], Look(60, 20, log_y=True))
    assert "2 with values ≤ 0 cut · log y" in text(drawing)[0]
    assert math.isclose(10**drawing.y_high, 8.0, rel_tol=0.2), "the largest value of the bucket that is partly below zero is drawn"


def test_outliers_leave_the_plot_and_are_counted() -> None:
    values = [1.0 + n % 7 / 10 for n in range(400)]
    for at in (100, 200, 300):
        values[at] = 500.0
    values[50] = -90.0
    open_look = draw([Curve.from_points("a", range(400), values)], Look(80, 20))
    clipped = draw([Curve.from_points("a", range(400), values)], Look(80, 20, clip=True))
    assert open_look.y_high > 500
    assert clipped.y_high < 3
    assert "3 above 1.9 · 1 below 0.7" in text(clipped)[0]
    columns = dots(clipped, 1)
    top = 4 * 17 - 1
    reaching = sum(any(row >= top - 3 for row in column) for column in columns)
    assert 3 <= reaching <= 9, "each of the three is seen to leave at the top"
    assert "no outliers" in text(draw([Curve.from_points("a", range(400), [1.0 + n % 7 for n in range(400)])], Look(80, 20, clip=True)))[0]


def test_clipping_asks_for_enough_points_to_know_what_is_usual() -> None:
    few = [Curve.from_points("a", range(5), [1.0, 1.0, 1.0, 1.0, 99.0])]
    assert draw(few, Look(60, 12, clip=True)).y_high > 99


def test_smoothing_draws_the_average_over_the_faint_curve() -> None:
    curve = Curve.from_points("a", range(300), [2.0 + (-1) ** n for n in range(300)])
    drawing = draw([curve], Look(60, 20, smoothing=0.9), [curve.smoothed(0.9)])
    roles = {role for row in drawing.rows[1:-2] for part, role in row if part.strip()}
    assert {"series-0", "faint"} <= roles
    assert "ema 0.9" in text(drawing)[0]


def test_curves_have_eight_colours_and_eight_signs() -> None:
    curves = [Curve.from_points(f"run-{n}", range(20), [float(n) + 0.5] * 20) for n in range(8)]
    plain = draw(curves, Look(120, 40, ascii_only=True))
    for sign in "*+o#x@%=":
        assert any(sign in row for row in text(plain)[1:-2]), sign
    roles = {role for row in draw(curves, Look(120, 40)).rows for _, role in row}
    assert {f"series-{n}" for n in range(8)} <= roles
    numbered = text(draw(curves, Look(120, 40, digits=True)))
    assert all(any(digit in row for row in numbered[1:-2]) for digit in "12345678"), "without colours each curve carries its number"


def test_an_event_line_is_named_at_its_top_and_at_the_crosshair() -> None:
    marks = ((50.0, Mark("checkpoint", 50.0, text="50")), (80.0, Mark("alarm", 80.0, text="loss spike")))
    curve = Curve.from_points("a", range(101), [1.0] * 101)
    rows = text(draw([curve], Look(90, 14, marks=marks, crosshair=80.0)))
    assert "ckpt 50" in rows[1]
    assert "alarm" in rows[1]
    assert "at step 80 · alarm loss spike" in rows[0]
    high = Curve.from_points("a", range(101), [float(n) for n in range(101)])
    crowded = text(draw([high], Look(90, 14, marks=tuple((float(n), Mark("checkpoint", n, text=str(n))) for n in range(101)))))
    assert sum(row.count("▴") for row in crowded) > 50, "a hundred checkpoints: no names, all lines"
    assert "ckpt" not in crowded[1]
