"""Energy, GPU time and money as people read them."""

from __future__ import annotations

import pytest

from llmops_tui.commands.money import cost, energy, gpu_hours, spent
from tests.tui.fake import summary


@pytest.mark.parametrize(("joules", "text"), [(None, "-"), (0.0, "0 Wh"), (36_000, "10 Wh"), (1_274_400, "354 Wh"), (4.464e6, "1.24 kWh")])
def test_energy_is_told_in_watt_hours(joules: float | None, text: str) -> None:
    assert energy(joules) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "-"), (52.3, "52 GPU-s"), (12_240, "3.4 GPU-h")])
def test_gpu_time_is_told_in_hours_once_there_are_some(seconds: float, text: str) -> None:
    assert gpu_hours(seconds) == text


@pytest.mark.parametrize(("amount", "text"), [(None, "-"), (0.0, "0.00 EUR"), (12.345, "12.35 EUR"), (0.00123, "0.0012 EUR")])
def test_a_small_cost_keeps_two_digits_that_say_something(amount: float | None, text: str) -> None:
    assert cost(amount, "EUR") == text


def test_what_a_run_used_is_one_line_and_nothing_without_a_gpu() -> None:
    run = summary("train-a-0001", "succeeded", gpu_seconds=12_240.0, energy_joules=4.464e6, cost=0.62)
    assert spent(run, "EUR") == "3.4 GPU-h, 1.24 kWh (365 Wh per GPU-hour), 0.62 EUR"
    assert spent(summary("train-a-0001", "succeeded", gpu_seconds=12_240.0), "") == "3.4 GPU-h"
    assert spent(summary("train-a-0001", "succeeded"), "EUR") == ""
