"""What a fine-tune will take is shown while its form is filled in, and beside what it took on its page."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llmops_tui.app import LlmopsApp
from llmops_tui.errors import NotFoundError
from llmops_tui.screens.fit_lines import fit_line, fit_lines, memory_rows
from llmops_tui.screens.run import RunScreen
from llmops_tui.specs.answers import EstimateAnswer
from tests.tui.driving import screen_text, until
from tests.tui.fake import FakeEngine
from tests.tui.fake_form import an_estimate
from tests.tui.test_new_run import engine, form, press

__all__ = ["engine"]


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(words for words, _ in line) for line in lines]


def test_one_line_holds_what_decides_first_and_leaves_out_what_has_no_room() -> None:
    found = an_estimate(memory_bytes=3 << 30)
    (whole,) = text([fit_line(found, 200)])
    assert whole.startswith(" ✓ fits 3.0 GiB (2.4 GiB to 3.6 GiB) of 60.0 GiB · 18m20s (9m30s to 37m50s) · fits up to batch 4,096")
    assert whole.endswith(" or length 7,040 · 940,500 tokens")
    assert text([fit_line(found, 60)]) == [" ✓ fits 3.0 GiB (2.4 GiB to 3.6 GiB) of 60.0 GiB"]
    assert all(len(text([fit_line(found, width)])[0]) <= width for width in range(90))


@pytest.mark.parametrize(
    ("fits", "words", "role"),
    [("yes", "✓ fits", "good"), ("maybe", "○ may not fit", "warn"), ("no", "✗ does not fit", "bad"), ("unknown", "3.0 GiB", "muted")],
)
def test_whether_it_fits_is_said_by_a_sign_a_word_and_a_colour(fits: str, words: str, role: str) -> None:
    ((line, shown),) = fit_line(an_estimate(fits=fits), 80)
    assert words in line
    assert shown == role


def test_with_room_every_figure_stands_with_its_band_and_the_parts_largest_first() -> None:
    found = an_estimate(energy_joules=7.2e6, cost=1.5, capacity_bytes=None, largest_micro_batch=0, fits="no")
    lines = text(fit_lines(found, "EUR", 60))
    assert " ✗ does not fit 16 threads" in lines
    assert " memory 3.0 GiB (2.4 GiB to 3.6 GiB)" in lines
    assert " 2e+03 Wh · 1.50 EUR" in lines or any("Wh · 1.50 EUR" in line for line in lines)
    assert " 134,515,008 parameters, 4,884,480 trained" in lines
    assert " no batch fits" in lines
    bars = [line for line in lines if "█" in line]
    assert [line.split()[0] for line in bars] == ["activations", "weights", "framework", "loss"]
    assert lines[-1].endswith("characters a token")
    assert all(len(line) <= 60 for line in lines)


def test_time_that_is_not_known_is_left_out() -> None:
    nothing: dict[str, Any] = {"seconds": None, "seconds_low": None, "seconds_high": None, "steps": None, "tokens": None}
    lines = text(fit_lines(an_estimate(**nothing), "EUR", 60))
    assert not any(line.startswith(" time") for line in lines)
    assert "s)" not in text([fit_line(an_estimate(**nothing), 80)])[0].partition("·")[2]


def test_a_runs_page_says_how_far_off_the_prediction_was() -> None:
    rows = dict(memory_rows(predicted(), {"memory_bytes": 2 << 30, "seconds": 1000.0}))
    assert rows["predicted peak"] == "3.0 GiB (2.4 GiB to 3.6 GiB)"
    assert rows["measured peak"] == "2.0 GiB (predicted 50% too high)"
    assert rows["measured time"] == "16m40s (predicted 10% too high)"
    assert dict(memory_rows(predicted(), {"memory_bytes": 4 << 30}))["measured peak"] == "4.0 GiB (predicted 25% too low)"
    assert dict(memory_rows(predicted(), {"memory_bytes": 3 << 30}))["measured peak"] == "3.0 GiB (as predicted)"
    assert "measured peak" not in dict(memory_rows(predicted(), None))
    assert "measured peak" not in dict(memory_rows(predicted(), {"memory_bytes": None, "seconds": True}))


def predicted() -> dict[str, object]:
    found: EstimateAnswer = an_estimate()
    return dict(found)


async def test_the_form_tells_what_it_takes_and_tells_it_anew_when_a_field_changes(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await until(pilot, lambda: "fits 1.8 GiB" in screen_text(pilot))
        asked = len(engine.estimated)
        await press(pilot, "slash", *"micro_batch", "enter", "backspace", "6", "4", "enter")
        await until(pilot, lambda: "does not fit" in screen_text(pilot))
        assert engine.estimated[-1]["micro_batch"] == 64
        assert len(engine.estimated) == asked + 1


async def test_on_a_wide_screen_the_parts_are_shown(engine: FakeEngine) -> None:
    async with form(engine, size=(160, 45)) as pilot:
        await until(pilot, lambda: "activations" in screen_text(pilot))
        assert "134,515,008 parameters" in screen_text(pilot)
        assert "corrected by 3 runs" in screen_text(pilot)


async def test_an_answer_to_an_older_question_is_dropped(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, release = threading.Event(), threading.Event()
    plain = engine.estimate

    def answer(spec: dict[str, Any], /, cwd: str | None = None) -> EstimateAnswer:
        if "micro_batch" not in spec:
            slow.set()
            release.wait(20)
            return an_estimate(memory_bytes=40 << 30)
        return plain(spec, cwd)

    monkeypatch.setattr(engine, "estimate", answer)
    async with form(engine) as pilot:
        await until(pilot, slow.is_set)
        await press(pilot, "slash", *"micro_batch", "enter", "backspace", "8", "enter")
        await until(pilot, lambda: "fits 2.6 GiB" in screen_text(pilot))
        release.set()
        await pilot.pause()
        assert "40.0 GiB" not in screen_text(pilot)


async def test_what_cannot_be_estimated_is_said_in_its_place(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: dict[str, Any], /, cwd: str | None = None) -> EstimateAnswer:
        raise NotFoundError("model 'gone': no registered name", "see `llmops-tui models list`")

    monkeypatch.setattr(engine, "estimate", refuse)
    async with form(engine) as pilot:
        await until(pilot, lambda: "model 'gone': no registered name" in screen_text(pilot))


async def test_a_runs_page_shows_predicted_beside_measured(engine: FakeEngine) -> None:
    engine.predicted = an_estimate(memory_bytes=3 << 30)
    engine.measured = {"memory_bytes": 2 << 30, "work_bytes": 1 << 30, "seconds": None, "tokens": 900}
    app = LlmopsApp(engine, status_seconds=0.05)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.live)
        app.open_run("train-fiqa-0003")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await press(pilot, "9")
        await until(pilot, lambda: "predicted 50% too high" in screen_text(pilot))
        assert "corrected by 3 runs like it" in screen_text(pilot)


async def test_a_model_from_scratch_is_estimated_without_a_model_to_begin_with(engine: FakeEngine) -> None:
    async with form(engine) as pilot:
        await until(pilot, lambda: "fits 1.8 GiB" in screen_text(pilot))
        await press(pilot, "slash", *"model", "enter", "ctrl+u", "enter")
        await until(pilot, lambda: "choose a model to see" in screen_text(pilot))
        await press(pilot, "slash", *"scratch.preset", "enter", "down", "enter")
        await until(pilot, lambda: "fits 1.8 GiB" in screen_text(pilot))
        assert engine.estimated[-1]["scratch"]["preset"]
