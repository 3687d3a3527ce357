"""What people read: sizes, times, tables."""

from __future__ import annotations

import math

import pytest

from llmops_tui.commands.output import duration, number, one_line, print_table, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (59.6, "1m00s"), (185, "3m05s"), (7620, "2h07m"), (360000, "4d04h"), (-3, "0s"), (None, "-")],
)
def test_a_duration_in_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 60, "1024.0 PiB"), (None, "-")]
)
def test_a_size_in_binary_units(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12000.0, "12,000"), (1.23456, "1.235"), (1e-5, "1e-05"), (math.nan, "nan"), (math.inf, "inf"), (None, "-")],
)
def test_a_number_in_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_name_cannot_steer_the_terminal() -> None:
    assert one_line("a\x1b[31m\nb\tc") == "a [31m b c"


def test_columns_are_aligned_and_not_coloured_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["NAME", "N"], [["a", "10"], ["longer", "9"]], right=[1])
    assert capsys.readouterr().out == "NAME     N\na       10\nlonger   9\n"
