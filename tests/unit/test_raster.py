"""The chart's raster: no spike is lost, no gap is bridged, and every row has its width."""

from __future__ import annotations

import math
from math import log10

import pytest

from llmops_tui.screens.widgets.axes import bytes_text, duration_text, label, nice_ticks, value_text
from llmops_tui.screens.widgets.curve import Curve
from llmops_tui.screens.widgets.legend import Run
from llmops_tui.screens.widgets.marks import Mark
from llmops_tui.screens.widgets.raster import Look
from llmops_tui.screens.widgets.raster import draw as drawn
from llmops_tui.screens.widgets.strips import bar, history_strip


def line(values: list[float | None]) -> Curve:
    return Curve.of("train/loss", [(step, value, value, value) for step, value in enumerate(values)])


def draw(curves: list[Curve], look: Look) -> list[list[Run]]:
    return drawn(curves, look).rows


def text(rows: list[list[Run]]) -> list[str]:
    return ["".join(part for part, _ in row) for row in rows]


def plot(rows: list[list[Run]]) -> list[str]:
    return [row.split("│" if "│" in row else "┤", 1)[1] for row in text(rows)[1:-2]]


@pytest.mark.parametrize("size", [(16, 4), (40, 8), (120, 30), (203, 61)])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
def test_every_row_is_exactly_as_wide_as_asked(size: tuple[int, int], ascii_only: bool, log_y: bool) -> None:
    curves = [line([1.0, 2.0, math.nan, 1e6, -3.0, 0.0, 1e-9]), line([5.0])]
    rows = draw(
        curves,
        Look(*size, log_y=log_y, ascii_only=ascii_only, marks=((2.0, Mark("checkpoint", 2.0)), (99.0, Mark("alarm"))), crosshair=3.0),
    )
    assert [len(row) for row in text(rows)] == [size[0]] * size[1]
    if ascii_only:
        assert all(row.isascii() for row in text(rows))


def test_a_spike_of_one_point_in_a_million_is_visible() -> None:
    values: list[float | None] = [1.0] * 1_000_000
    values[700_001] = 50.0
    rows = plot(draw([line(values)], Look(100, 20)))
    assert any(character not in (" ", "\u2800") for character in rows[1]), "the spike reaches the top"
    columns = {x for row in rows[:10] for x, character in enumerate(row) if character != " "}
    assert len(columns) == 1


def test_a_gap_is_a_break_and_never_bridged() -> None:
    values: list[float | None] = [1.0] * 40 + [math.nan] * 20 + [None] * 10 + [1.0] * 30
    rows = plot(draw([line(values)], Look(106, 12)))
    drawn = [any(row[x] != " " for row in rows) for x in range(len(rows[0]))]
    gap = [x for x, filled in enumerate(drawn) if not filled]
    assert len(gap) >= 28
    assert gap == list(range(gap[0], gap[-1] + 1))


def test_a_curve_of_one_point_is_more_than_one_dot() -> None:
    single = Curve.of("eval/loss", [(5.0, 2.0, 2.0, 2.0)])
    rows = plot(draw([line([3.0, 1.0] * 5), single], Look(60, 12)))
    alone = plot(draw([single], Look(60, 12)))
    assert len({len(row) for row in rows}) == 1
    assert sum((ord(character) - 0x2800).bit_count() for row in alone for character in row if "\u2800" < character <= "\u28ff") == 9
    cloud = Curve("trials", [1.0, 5.0, 9.0], [1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [1.0, 3.0, 2.0], ((0, 1), (1, 2), (2, 3)), 2.0)
    scattered = plot(draw([cloud], Look(60, 12)))
    assert sum((ord(character) - 0x2800).bit_count() for row in scattered for character in row if "\u2800" < character <= "\u28ff") >= 3 * 4
    # A gap stays a gap: points between NaN keep their one dot.
    between = plot(draw([line([1.0, math.nan] * 5)], Look(60, 12)))
    assert sum((ord(character) - 0x2800).bit_count() for row in between for character in row if "\u2800" < character <= "\u28ff") == 5


def test_a_bucket_that_ends_in_nan_shows_its_values_and_then_breaks() -> None:
    bucket = [0.0, 9.0, 10.0, 1.0, 2.0, 1.5, None, 0.0]
    after = [50.0, 59.0, 10.0, 1.0, 2.0, 1.5, 1.5, 0.0]
    curve = Curve.from_buckets("loss", [bucket, after])
    assert curve.pieces == ((0, 1), (1, 2))
    assert curve.final == 1.5


def test_a_curve_that_ends_in_nan_says_so_in_the_legend() -> None:
    assert "nan" in text(draw([line([1.0, 2.0, math.nan])], Look(60, 10)))[0]


def test_the_logarithmic_axis_leaves_out_what_is_not_positive_and_says_so() -> None:
    rows = draw([line([100.0, 10.0, 0.0, -5.0, 1.0])], Look(80, 20, log_y=True))
    assert "2 with values ≤ 0 cut · log y" in text(rows)[0]
    assert {"100", "10", "1"} <= {row.split("┤")[0].strip() for row in text(rows) if "┤" in row}


def test_a_logarithmic_axis_with_nothing_positive_is_empty_and_no_error() -> None:
    rows = text(draw([line([-1.0, 0.0])], Look(60, 10, log_y=True)))
    assert any("2 points, none above 0" in row for row in rows)


def test_a_flat_curve_a_single_point_and_huge_values_are_drawn() -> None:
    for values in ([3.0, 3.0], [7.0], [1e308, -1e308], [5e-324, 0.0]):
        rows = plot(draw([line(list(values))], Look(60, 12)))
        assert any(character != " " for row in rows for character in row), values


def test_checkpoints_are_dotted_lines_with_a_sign_at_the_axis() -> None:
    rows = draw([line([1.0] * 101)], Look(80, 12, marks=((50.0, Mark("checkpoint", 50.0)),)))
    assert [part for row in rows for part, role in row if role == "mark" and "▴" in part]
    assert sum(role == "mark" for row in rows[1:-2] for _, role in row) >= 7


def test_a_row_has_one_run_a_colour() -> None:
    rows = draw([line([float(n % 7) for n in range(500)])], Look(120, 20))
    assert all(len(row) <= 3 for row in rows[1:-2])


def test_the_crosshair_reads_the_values_at_its_step() -> None:
    rows = text(draw([line([4.0, 3.0, 2.0])], Look(60, 10, crosshair=1.0)))
    assert "train/loss 3 " in rows[0]
    assert "at step 1" in rows[0]


def test_ticks_step_by_one_two_or_five() -> None:
    assert nice_ticks(0, 10, 5, False) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(0.13, 0.21, 4, False) == [0.14, 0.16, 0.18, 0.2]
    assert nice_ticks(log10(1.3), log10(32), 6, True) == [2, 5, 10, 20], "a tick near a loss that has come down"
    assert nice_ticks(log10(1.4), log10(1.6), 3, True) == [1.4, 1.5, 1.6]
    assert nice_ticks(-3, 3, 4, True) == [0.001, 0.01, 0.1, 1, 10, 100, 1000][::2]
    assert [label(t, [100, 1e4, 1e6]) for t in (100, 1e4, 1e6)] == ["100", "10k", "1M"]  # a logarithmic axis
    assert [label(t, [0, 5e5, 1e6, 1.5e6]) for t in (0, 5e5, 1e6, 1.5e6)] == ["0", "500k", "1.0M", "1.5M"]


@pytest.mark.parametrize(
    ("low", "high", "most"),
    [(1.4, 32.0, 2), (0.0, 32.0, 3), (2.98e-4, 3.001e-4, 5), (0.0, 1e-5, 4), (1e-9, 2e-9, 4), (1e9, 5e9, 4), (123456.0, 123460.0, 4)],
)
def test_an_axis_has_two_numbers_at_least_and_no_two_alike(low: float, high: float, most: int) -> None:
    ticks = nice_ticks(low, high, most, False)
    texts = [label(tick, ticks) for tick in ticks]
    assert len(texts) >= 2
    assert len(set(texts)) == len(texts)
    assert all(len(text) <= 9 for text in texts)


def test_the_reason_for_an_empty_chart_is_told_whole() -> None:
    reason = "waits for a GPU: GPU 0 18.0 GiB in use by a process that the driver does not list"
    rows = text(draw([], Look(40, 8, empty=reason)))
    assert " ".join(" ".join(rows).split()) == reason
    assert all(len(row) == 40 for row in rows)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0"),
        (1.23456789, "1.2346"),
        (math.nan, "nan"),
        (3e-5, "3.000e-5"),
        (3e-4, "3.000e-4"),
        (225568.9, "225569"),
        (1234567.0, "1.23M"),
    ],
)
def test_values_are_short(value: float | None, shown: str) -> None:
    assert value_text(value) == shown


@pytest.mark.parametrize("power", range(-310, 308, 3))
def test_no_value_is_longer_than_nine_characters(power: int) -> None:
    for value in (-1.23456789 * 10.0**power, -9.99999999 * 10.0**power):
        assert len(value_text(value)) <= 9 + (abs(power) >= 98), value


def test_sizes_and_spans_are_short() -> None:
    assert (bytes_text(0), bytes_text(1536), bytes_text(None), bytes_text(3 << 40)) == ("0 B", "1.5 KiB", "-", "3.0 TiB")
    assert [duration_text(s) for s in (5, 200, 3720, 90000, None, -1)] == ["5s", "3m20s", "1h02m", "1d01h", "-", "-"]


def test_strips_and_bars_have_their_width_whatever_comes() -> None:
    assert len(history_strip([0.5, None, 2.0, -1.0], 10)) == 10
    assert history_strip([], 3).strip("\u2800") == ""
    for fraction in (-1.0, 0.0, 0.43, 0.999, 1.0, 7.0):
        assert len(bar(fraction, 12)) == 12
        assert len(bar(fraction, 12, ascii_only=True)) == 12
